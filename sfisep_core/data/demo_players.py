"""Play the four stems of a demo song.

Each stem has its own random generators, so that its notes do not depend on other stems.
"""

from collections.abc import Callable

import numpy as np
from scipy import signal

from sfisep_core.data import demo_instruments as sounds
from sfisep_core.data.demo_instruments import Samples, Singer, Syllable, Timbre
from sfisep_core.data.demo_song import Song

_BASS_PATTERNS = (
    (0, 8),
    (0, 4, 8, 12),
    (0, 2, 4, 6, 8, 10, 12, 14),
    (0, 3, 6, 8, 11, 14),
    (0, 6, 8, 14),
    (0, 3, 4, 7, 10, 12),
)
_CHORD_PATTERNS = ((0,), (0, 8), (0, 4, 8, 12), (0, 3, 6, 10), (2, 6, 10, 14), (0, 6, 12))
_BASS_TIMBRES = (
    Timbre(attack=0.01, decay=1.0, sustain=0.9, bright=120.0, dull=90.0),
    Timbre(attack=0.008, decay=0.6, sustain=0.4, bright=450.0, dull=180.0),
    Timbre(attack=0.005, decay=0.5, sustain=0.6, bright=320.0, dull=150.0, stride=2.0),
    Timbre(attack=0.005, decay=0.3, sustain=0.3, bright=600.0, dull=180.0),
)
_PAD_TIMBRES = (
    Timbre(attack=0.25, decay=3.0, sustain=0.8, bright=1800.0, dull=1200.0, detune=9.0),
    Timbre(attack=0.1, decay=3.0, sustain=0.8, bright=4000.0, dull=2500.0, detune=14.0),
    Timbre(attack=0.015, decay=5.0, sustain=0.9, bright=1500.0, dull=1500.0),
    Timbre(attack=0.06, decay=1.0, sustain=0.7, bright=900.0, dull=3000.0),
)
_PLUCKED_TIMBRES = (
    Timbre(attack=0.004, decay=0.9, sustain=0.05, bright=4500.0, dull=700.0, detune=3.0),
    Timbre(attack=0.003, decay=0.45, sustain=0.0, bright=6000.0, dull=500.0),
    Timbre(attack=0.006, decay=0.5, sustain=0.4, bright=3000.0, dull=1500.0, stride=2.0),
    Timbre(attack=0.003, decay=1.2, sustain=0.0, bright=3000.0, dull=1500.0, stride=2.76),
)
_FADE_IN_SECONDS = 0.002
_TAIL_SECONDS = 0.4
_RMS_BLOCK_SECONDS = 0.05


class _Canvas:
    """Accumulates mono sounds in a stereo signal of shape (2, frames)."""

    def __init__(self, frames: int, sample_rate: int) -> None:
        self.samples: Samples = np.zeros((2, frames))
        self.sample_rate = sample_rate

    def add(self, sound: Samples, time: float, gain: float = 1.0, pan: float = 0.0) -> None:
        """Add a sound at `time` seconds, placed at `pan` (-1 left, 1 right) with equal power."""
        first = round(time * self.sample_rate)
        piece = sound[: max(0, self.samples.shape[1] - first)]
        angle = 0.25 * np.pi * (pan + 1.0)
        for side, weight in enumerate((np.cos(angle), np.sin(angle))):
            self.samples[side, first : first + len(piece)] += gain * weight * piece


def play_stem(
    song: Song, stem: str, *, seed: int, track: int, index: int, sample_rate: int
) -> Samples:
    """Play one stem at its place in the balance, before the song is scaled to 16 bits.

    Args:
        song: the plan that the stems share.
        stem: a name in `PLAYERS`.
        seed: seed of the corpus.
        track: number of the track.
        index: place of the stem in the corpus' order; names its random generators.
        sample_rate: in Hz.

    Returns:
        Samples of shape (2, frames), exactly zero where the stem is silent.
    """
    # Noise has its own generator, because the number of its draws depends on the rate.
    rng = np.random.default_rng(np.random.SeedSequence(seed, spawn_key=(track, index, 0)))
    noise = np.random.default_rng(np.random.SeedSequence(seed, spawn_key=(track, index, 1)))
    canvas = _Canvas(round(song.seconds * sample_rate), sample_rate)
    level = 10.0 ** (float(np.clip(rng.normal(0.0, 1.5), -3.0, 3.0)) / 20.0)
    room_seconds, room_level = rng.uniform(0.2, 0.9), rng.uniform(0.05, 0.4)
    if stem == "bass":
        room_level *= 0.25
    PLAYERS[stem](song, rng, noise, canvas)
    samples = sounds.add_room(
        canvas.samples, noise, room_seconds, room_level, sample_rate=sample_rate
    )
    high_pass = signal.butter(2, 25.0, "highpass", fs=sample_rate, output="sos")
    samples = signal.sosfilt(high_pass, samples, axis=-1) * _gate(song, stem, samples.shape[1])
    return np.asarray(samples * (level / max(active_rms(samples, sample_rate), 1e-9)))


def active_rms(samples: Samples, sample_rate: int) -> float:
    """Measure the RMS over the 50 ms blocks that lie within 40 dB of the loudest one."""
    size = min(samples.shape[1], max(1, round(_RMS_BLOCK_SECONDS * sample_rate)))
    count = samples.shape[1] // size
    blocks = samples[:, : count * size].reshape(2, count, size)
    power = np.mean(blocks * blocks, axis=(0, 2))
    return float(np.sqrt(np.mean(power[power >= 1e-4 * np.max(power)])))


def _gate(song: Song, stem: str, frames: int) -> Samples:
    """Return the gain that opens at each active section and lets its reverberation decay."""
    times, gains = [-1.0], [0.0]
    starts = [start for start, _ in song.active[stem][1:]] + [song.seconds]
    for (start, end), following in zip(song.active[stem], starts, strict=True):
        fade = min(_FADE_IN_SECONDS, 0.25 * (end - start))
        tail = min(_TAIL_SECONDS, 0.3 * (following - end)) or fade
        times += [start, start + fade, end, end + tail]
        gains += [0.0, 1.0, 1.0, 0.0]
    return np.asarray(np.interp(np.arange(frames) * (song.seconds / frames), times, gains))


def _play_drums(
    song: Song, rng: np.random.Generator, noise: np.random.Generator, canvas: _Canvas
) -> None:
    rate = canvas.sample_rate
    kick_hz, kick_decay = rng.uniform(42.0, 62.0), rng.uniform(0.06, 0.14)
    snare_hz, snare_decay = rng.uniform(150.0, 230.0), rng.uniform(0.04, 0.1)
    hat_low, hat_decay = rng.uniform(5000.0, 8500.0), rng.uniform(0.02, 0.05)
    hat_level, hat_pan = rng.uniform(0.15, 0.45), rng.uniform(-0.4, 0.4)
    hat_every, open_chance = int(rng.choice([1, 2, 2, 4])), rng.choice([0.0, 0.05, 0.15])
    four_on_floor, half_time, fills = rng.random(3) < (0.3, 0.15, 0.6)
    bar = np.arange(song.steps_per_bar)
    extra = rng.random(len(bar)) < rng.uniform(0.05, 0.35)
    kicks = (bar % 4 == 0) if four_on_floor else (bar == 0) | (extra & (bar % 2 == 0))
    snares = (bar == 8) if half_time or len(bar) == 12 else (bar % 8 == 4)
    ghosts = (rng.random(len(bar)) < rng.uniform(0.0, 0.15)) & ~kicks & ~snares
    for step in song.steps("drums"):
        place, loud = step.position, rng.uniform(0.75, 1.0)
        filling = fills and step.bar % 4 == 3 and place >= len(bar) - 4
        if kicks[place] or step.entry:
            skin = sounds.membrane(4.0 * kick_hz, kick_hz, 0.025, kick_decay, sample_rate=rate)
            click = sounds.noise_hit(noise, 1500.0, 6000.0, 0.004, sample_rate=rate)
            canvas.add(skin, step.time, loud)
            canvas.add(click, step.time, 0.3 * loud)
        if filling:
            tom_hz = 70.0 + 30.0 * (len(bar) - place)
            tom = sounds.membrane(1.6 * tom_hz, tom_hz, 0.04, 0.09, sample_rate=rate)
            canvas.add(tom, step.time, 0.7 * loud, 0.3 * (place % 4) - 0.45)
        elif snares[place] or ghosts[place]:
            gain = loud if snares[place] else 0.25 * loud
            skin = sounds.membrane(1.3 * snare_hz, snare_hz, 0.02, snare_decay, sample_rate=rate)
            wires = sounds.noise_hit(noise, 1200.0, 8000.0, 1.4 * snare_decay, sample_rate=rate)
            canvas.add(skin, step.time, 0.5 * gain, 0.1)
            canvas.add(wires, step.time, 0.6 * gain, 0.1)
        if step.entry or place % hat_every == 0:
            crash = step.entry and step.bar % 2 == 0
            decay = 0.3 if crash else hat_decay * (5.0 if rng.random() < open_chance else 1.0)
            hat = sounds.noise_hit(noise, hat_low, 14000.0, decay, sample_rate=rate)
            accent = 1.0 if place % 4 == 0 else 0.65
            canvas.add(hat, step.time, hat_level * accent * loud, hat_pan)


def _play_bass(
    song: Song, rng: np.random.Generator, _noise: np.random.Generator, canvas: _Canvas
) -> None:
    timbre = _BASS_TIMBRES[rng.integers(len(_BASS_TIMBRES))]
    pattern = _BASS_PATTERNS[rng.integers(len(_BASS_PATTERNS))]
    onsets = [onset for onset in pattern if onset < song.steps_per_bar]
    held = rng.uniform(0.65, 0.98)
    # Interval above the root (unison, fifth or octave), the same in each bar.
    leaps = rng.choice([0, 0, 0, 7, 12], size=song.steps_per_bar)
    leaps[0] = 0
    for step in song.steps("bass"):
        if not (step.entry or step.position in onsets):
            continue
        following = [onset for onset in [*onsets, song.steps_per_bar] if onset > step.position]
        seconds = min(held * (following[0] - step.position) * song.step, step.left)
        pitch = 28 + (song.pitch(song.chord(step.bar)) - 28) % 12 + int(leaps[step.position])
        sound = sounds.note(timbre, pitch, seconds, sample_rate=canvas.sample_rate)
        canvas.add(sound, step.time, rng.uniform(0.8, 1.0))


def _chord_pitches(song: Song, bar: int, low: int, size: int) -> list[int]:
    """Return `size` notes of the bar's chord, each in the octave over `low`."""
    degrees = [song.chord(bar) + 2 * third for third in range(size)]
    return sorted(low + (song.pitch(degree) - low) % 12 for degree in degrees)


def _play_other(
    song: Song, rng: np.random.Generator, _noise: np.random.Generator, canvas: _Canvas
) -> None:
    rate = canvas.sample_rate
    every = _PAD_TIMBRES + _PLUCKED_TIMBRES
    chord_timbre = every[rng.integers(len(every))]
    arp_timbre = _PLUCKED_TIMBRES[rng.integers(len(_PLUCKED_TIMBRES))]
    pattern = _CHORD_PATTERNS[rng.integers(len(_CHORD_PATTERNS))]
    onsets = [onset for onset in pattern if onset < song.steps_per_bar]
    low, size = int(rng.integers(50, 60)), int(rng.choice([3, 3, 4]))
    held, width, chord_pan = rng.uniform(0.5, 1.0), rng.uniform(0.0, 0.5), rng.uniform(-0.4, 0.4)
    arp_level = float(rng.choice([0.0, 0.4, 0.7]))
    arp_every, arp_octave = int(rng.choice([1, 2, 2])), 12 * int(rng.integers(1, 3))
    arp_pan = -chord_pan + rng.uniform(-0.3, 0.3)
    order = rng.permutation(np.arange(8) % size)
    for step in song.steps("other"):
        chord = _chord_pitches(song, step.bar, low, size)
        if step.entry or step.position in onsets:
            following = [onset for onset in [*onsets, song.steps_per_bar] if onset > step.position]
            seconds = min(held * (following[0] - step.position) * song.step, step.left)
            for pitch, side in zip(chord, np.linspace(-width, width, size), strict=True):
                sound = sounds.note(chord_timbre, pitch, seconds, sample_rate=rate)
                canvas.add(sound, step.time, rng.uniform(0.8, 1.0), chord_pan + side)
        if arp_level and step.position % arp_every == 0:
            pitch = chord[order[step.position // arp_every % 8]] + arp_octave
            seconds = min(1.5 * arp_every * song.step, step.left)
            sound = sounds.note(arp_timbre, pitch, seconds, sample_rate=rate)
            canvas.add(sound, step.time, arp_level * rng.uniform(0.7, 1.0), arp_pan)


def _play_vocals(
    song: Song, rng: np.random.Generator, noise: np.random.Generator, canvas: _Canvas
) -> None:
    # A low voice has a long vocal tract, so low formants.
    height = rng.random()
    singer = Singer(
        formant_scale=0.92 + 0.25 * height + rng.uniform(-0.04, 0.04),
        brightness=rng.uniform(2500.0, 6000.0),
        breath=rng.uniform(0.02, 0.25),
        vibrato_hz=rng.uniform(4.5, 6.5),
        vibrato_cents=rng.uniform(10.0, 55.0),
        glide=rng.uniform(0.03, 0.09),
    )
    low = 43 + round(14.0 * height)
    pitches = [p for p in range(low, low + 15) if (p - song.root) % 12 in song.scale]
    pan, breathing, consonants = rng.uniform(-0.15, 0.15), rng.random() < 0.6, rng.uniform(0.4, 0.9)
    for start, end in song.active["vocals"]:
        time = start
        spot = int(rng.integers(2, len(pitches) - 2))
        while time == start or end - time > 0.5 * song.step:
            phrase_end = min(end, time + song.step * int(rng.integers(10, 29)))
            if breathing and time - start > 0.5:
                inhale = sounds.breath(noise, 0.3, sample_rate=canvas.sample_rate)
                canvas.add(inhale, time - 0.35, 0.15, pan)
            syllables = []
            onset = time
            while phrase_end - onset > 1e-6:
                seconds = song.step * int(rng.choice([2, 2, 3, 4, 4, 6, 8]))
                if phrase_end - onset - seconds < 2.0 * song.step:
                    seconds = phrase_end - onset
                spot = int(np.clip(spot + rng.integers(-2, 3), 0, len(pitches) - 1))
                bar = int((onset + 1e-6) / (song.step * song.steps_per_bar))
                chord = [pitch % 12 for pitch in _chord_pitches(song, bar, low, 3)]
                near = [i for i in (spot, spot - 1, spot + 1) if 0 <= i < len(pitches)]
                spot = next((i for i in near if pitches[i] % 12 in chord), spot)
                spoken = rng.random() < consonants
                consonant = int(rng.integers(sounds.NUM_CONSONANTS))
                vowel = int(rng.integers(sounds.NUM_VOWELS))
                syllables.append(
                    Syllable(onset, seconds, pitches[spot], vowel, consonant if spoken else None)
                )
                onset += seconds
            voice = sounds.sing(singer, syllables, rng, noise, sample_rate=canvas.sample_rate)
            canvas.add(voice, time, rng.uniform(0.8, 1.0), pan)
            time = phrase_end + song.step * int(rng.integers(3, 9))


PLAYERS: dict[str, Callable[[Song, np.random.Generator, np.random.Generator, _Canvas], None]] = {
    "vocals": _play_vocals,
    "drums": _play_drums,
    "bass": _play_bass,
    "other": _play_other,
}
