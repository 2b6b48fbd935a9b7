"""Plan the songs of the demo corpus: tempo, key, chords, and the sections where stems play."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

_SCALES = {
    "major": (0, 2, 4, 5, 7, 9, 11),
    "minor": (0, 2, 3, 5, 7, 8, 10),
    "dorian": (0, 2, 3, 5, 7, 9, 10),
    "mixolydian": (0, 2, 4, 5, 7, 9, 10),
}
# Chords as scale degrees, one for each bar.
_PROGRESSIONS = (
    (0, 4, 5, 3),
    (0, 5, 3, 4),
    (5, 3, 0, 4),
    (0, 3, 4, 3),
    (0, 6, 5, 4),
    (1, 4, 0, 0),
    (0, 0, 3, 3, 0, 4, 3, 0),
    (0, 2, 3, 4, 5, 3, 4, 4),
)


class Step(NamedTuple):
    """One sixteenth of the grid: `left` is the time (s) to the end of the active section."""

    time: float
    bar: int
    position: int
    entry: bool
    left: float


@dataclass(frozen=True)
class Song:
    """Plan that the stems of a track share; times in seconds, pitches as MIDI numbers."""

    seconds: float
    step: float
    steps_per_bar: int
    swing: float
    root: int
    scale: tuple[int, ...]
    progression: tuple[int, ...]
    active: dict[str, tuple[tuple[float, float], ...]]
    peak: float

    def pitch(self, degree: int) -> int:
        """Return the pitch of a scale degree over the root, in the octave of MIDI 0 to 11."""
        return self.root + self.scale[degree % 7] + 12 * (degree // 7)

    def chord(self, bar: int) -> int:
        """Return the scale degree of the chord in a bar."""
        return self.progression[bar % len(self.progression)]

    def steps(self, stem: str) -> Iterator[Step]:
        """Yield the sixteenths of the sections in which a stem plays."""
        for start, end in self.active[stem]:
            first = round(start / self.step)
            for index in range(first, first + int(np.ceil((end - start) / self.step - 1e-9))):
                bar, position = divmod(index, self.steps_per_bar)
                late = self.swing * self.step * (index % 2) * (index > first)
                time = start + (index - first) * self.step + late
                if time < end:
                    yield Step(time, bar, position, index == first, end - time)


def plan_song(*, seed: int, track: int, seconds: float, stems: tuple[str, ...]) -> Song:
    """Draw the plan that the stems of a track share; each stem rests in at least one section."""
    rng = np.random.default_rng(np.random.SeedSequence(seed, spawn_key=(track,)))
    step = 15.0 / rng.uniform(72.0, 160.0)
    steps_per_bar = int(rng.choice([16, 16, 16, 12]))
    swing = float(rng.choice([0.0, 0.0, rng.uniform(0.1, 0.35)]))
    scale = tuple(_SCALES.values())[rng.integers(len(_SCALES))]
    progression = _PROGRESSIONS[rng.integers(len(_PROGRESSIONS))]
    root = int(rng.integers(12))
    peak = float(rng.uniform(0.6, 0.95))

    # Sections of about 6 s that end on a bar line; in a short track on a beat, or anywhere.
    count = max(6, round(seconds / 6.0))
    units = (steps_per_bar * step, 4.0 * step, seconds / count)
    unit = next(unit for unit in units if unit * count <= seconds * (1.0 + 1e-9))
    edges = np.floor(np.arange(count + 1) * (seconds / count / unit) + 0.5) * unit
    edges[-1] = seconds
    playing = np.ones((len(stems), count), dtype=bool)
    first_rests = rng.permutation(count)
    for index, row in enumerate(playing):
        row[first_rests[index]] = False
        row[
            rng.choice(count, size=int(rng.integers(count // 10, count // 4 + 1)), replace=False)
        ] = False
    active = {}
    for stem, row in zip(stems, playing, strict=True):
        changes = np.flatnonzero(np.diff(np.concatenate([[0], row, [0]])))
        pairs = edges[changes].reshape(-1, 2)
        active[stem] = tuple((float(start), float(end)) for start, end in pairs)
    return Song(seconds, step, steps_per_bar, swing, root, scale, progression, active, peak)
