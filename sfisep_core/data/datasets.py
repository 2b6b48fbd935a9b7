"""Read excerpts of a prepared data set by seek."""

from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from sfisep_core.audio.files import read_audio, read_info
from sfisep_core.data.layouts import STEMS
from sfisep_core.data.manifest import MANIFEST_NAME, PreparedTrack, read_manifest
from sfisep_core.errors import DatasetError

# A second counts as active above this RMS (-50 dB full scale).
_ACTIVE_RMS = 10 ** (-50 / 20)


@dataclass(frozen=True)
class Place:
    """Where an excerpt starts: track number and sample."""

    track: int
    start: int


class StemDataset:
    """The tracks of one split, all at one rate, from which excerpts are drawn.

    Args:
        folder: Prepared data set.
        split: "train", "valid" or "test".
        excerpt_seconds: Length of excerpts; shorter tracks are left out.

    Raises:
        DatasetError: The split has no tracks, none of them is long enough, or they have different
            rates.
    """

    def __init__(self, folder: Path, *, split: str, excerpt_seconds: float) -> None:
        self.folder = folder
        manifest = read_manifest(folder)
        tracks = [track for track in manifest if track.split == split]
        if not tracks:
            found = Counter(track.split for track in manifest)
            counts = ", ".join(f"{number} in {name!r}" for name, number in found.items())
            msg = (
                f"data set {folder}: expected tracks in split {split!r}, found none "
                f"({counts or 'nor in any other'}): put some into SOURCE/{split}/ and run "
                f"`sfisep prepare-data SOURCE --out {folder}`"
            )
            raise DatasetError(msg)
        self.tracks = [t for t in tracks if t.frames >= excerpt_seconds * t.sample_rate]
        if not self.tracks:
            msg = (
                f"data set {folder}: expected tracks of at least {excerpt_seconds} s in split "
                f"{split!r}, found {len(tracks)} tracks, none of them long enough"
            )
            raise DatasetError(msg)
        rates = {track.sample_rate for track in self.tracks}
        if len(rates) > 1:
            msg = (
                f"data set {folder}: training needs one rate, found {sorted(rates)} Hz: prepare "
                "the data again with --sr"
            )
            raise DatasetError(msg)
        self.sample_rate = rates.pop()
        self.excerpt_frames = round(excerpt_seconds * self.sample_rate)
        self._durations = np.array([t.frames - self.excerpt_frames + 1 for t in self.tracks], float)
        self._active = {stem: self._active_seconds(stem) for stem in STEMS}

    def draw_place(self, rng: np.random.Generator, stem: str | None = None) -> Place:
        """Draw where an excerpt starts.

        Args:
            rng: Random numbers.
            stem: If given, the excerpt contains a second in which this stem is active (where the
                split has one); None: anywhere, every start equally likely.

        Returns:
            The place.
        """
        if stem is None or not len(self._active[stem]):
            shares = self._durations / self._durations.sum()
            track = int(rng.choice(len(self.tracks), p=shares))
            return Place(track, int(rng.integers(int(self._durations[track]))))
        track, second = self._active[stem][rng.integers(len(self._active[stem]))]
        latest = int(self._durations[track]) - 1
        # An excerpt shorter than a second lies inside it.
        earliest, newest = sorted((0, self.excerpt_frames - self.sample_rate))
        shift = rng.integers(earliest, newest + 1)
        return Place(int(track), int(np.clip(second * self.sample_rate - shift, 0, latest)))

    def read(self, place: Place, stem: str) -> npt.NDArray[np.float32]:
        """Read an excerpt of a stem, shape (channel, excerpt_frames).

        Raises:
            AudioFileError: The file cannot be read.
            DatasetError: It is shorter than the manifest says.
        """
        return self._read(self.tracks[place.track], stem, place.start, self.excerpt_frames)

    def _read(
        self, track: PreparedTrack, stem: str, start: int, frames: int
    ) -> npt.NDArray[np.float32]:
        path = self.folder / track.stems[stem]
        audio = read_audio(path, start=start, frames=frames)[0]
        if audio.shape[1] < frames:
            msg = (
                f"{path}: expected {track.frames} frames as {MANIFEST_NAME} says, found "
                f"{read_info(path).frames}: prepare the data again"
            )
            raise DatasetError(msg)
        return audio

    def _active_seconds(self, stem: str) -> npt.NDArray[np.int64]:
        places = [
            (number, second)
            for number, track in enumerate(self.tracks)
            for second, rms in enumerate(track.activity[stem])
            if rms > _ACTIVE_RMS
        ]
        return np.array(places, dtype=np.int64).reshape(-1, 2)
