"""Read excerpts of a prepared data set by seeking in its files."""

import logging
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import soundfile

from sfisep_core.audio.files import read_audio, read_info
from sfisep_core.audio.resample import resample
from sfisep_core.data.manifest import MANIFEST_NAME, PreparedTrack, dataset_file, read_manifest
from sfisep_core.errors import DatasetError
from sfisep_core.wording import counted

# A second counts as active above this RMS (-50 dB full scale).
_ACTIVE_RMS = 10 ** (-50 / 20)
_SHOWN_NAMES = 5

_logger = logging.getLogger(__name__)


class EmptySplitError(DatasetError):
    """A split has no tracks.

    Attributes:
        others: The splits that have tracks.
    """

    def __init__(self, message: str, *, others: tuple[str, ...]) -> None:
        super().__init__(message)
        self.others = others


@dataclass(frozen=True)
class Place:
    """Start of an excerpt: index of the track, and sample at the track's own rate."""

    track: int
    start: int


class StemDataset:
    """The tracks of one split, from which excerpts are drawn and read.

    Tracks may have different rates. All excerpts have the highest rate: those of other tracks are
    resampled individually when they are read, as if surrounded by silence.

    Args:
        folder: Prepared data set.
        split: "train", "valid" or "test".
        excerpt_seconds: Length of the longest excerpts; shorter tracks are left out. None: all
            tracks are kept, and read as a whole.

    Attributes:
        folder: Prepared data set.
        tracks: The tracks, as in the manifest.
        stems: Names of the stems of every track, in order.
        sample_rate: Sample rate of the excerpts in Hz.

    Raises:
        EmptySplitError: The split has no tracks.
        DatasetError: None of its tracks is long enough, or they have different stems.
    """

    def __init__(self, folder: Path, *, split: str, excerpt_seconds: float | None) -> None:
        self.folder = folder
        manifest = read_manifest(folder)
        tracks = [track for track in manifest if track.split == split]
        if not tracks:
            track_counts = Counter(track.split for track in manifest)
            counts = ", ".join(f"{number} in {name!r}" for name, number in track_counts.items())
            msg = (
                f"data set {folder}: expected tracks in split {split!r}, found none "
                f"({counts or 'nor in any other'}): put some into SOURCE/{split}/ and run "
                f"`sfisep prepare-data SOURCE --out {folder}`"
            )
            raise EmptySplitError(msg, others=tuple(track_counts))
        self.stems = tuple(tracks[0].stems)
        other = next((track for track in tracks if track.stems.keys() != set(self.stems)), None)
        if other is not None:
            msg = (
                f"data set {folder}: expected tracks of one kind, got {', '.join(self.stems)} in "
                f"{tracks[0].name} and {', '.join(other.stems)} in {other.name}: prepare each kind "
                "into a folder of its own"
            )
            raise DatasetError(msg)
        shortest = excerpt_seconds or 0.0
        self.tracks = [t for t in tracks if t.frames >= shortest * t.sample_rate]
        if not self.tracks:
            msg = (
                f"data set {folder}: expected tracks of at least {excerpt_seconds} s in split "
                f"{split!r}, found none that long among "
                f"{counted(len(tracks), 'track')}: prepare longer ones, or ask for shorter excerpts"
            )
            raise DatasetError(msg)
        short = [t.name for t in tracks if t.frames < shortest * t.sample_rate]
        if short:
            more = f" and {len(short) - _SHOWN_NAMES} more" if len(short) > _SHOWN_NAMES else ""
            _logger.warning(
                "data set %s: split %r has tracks shorter than an excerpt of %s s, which are left "
                "out: %s%s",
                folder,
                split,
                excerpt_seconds,
                ", ".join(short[:_SHOWN_NAMES]),
                more,
            )
        rates = Counter(track.sample_rate for track in self.tracks)
        self.sample_rate = max(rates)
        if excerpt_seconds is not None and len(rates) > 1:
            _logger.warning(
                "data set %s: split %r has tracks at %s Hz; what is read of them is resampled to "
                "%d Hz; prepare the data with --sr to do so once",
                folder,
                split,
                ", ".join(f"{rate} ({number})" for rate, number in sorted(rates.items())),
                self.sample_rate,
            )
        self._lengths = np.array([track.frames for track in self.tracks])
        self._rates = np.array([track.sample_rate for track in self.tracks])
        self._active = {stem: self._active_seconds(stem) for stem in self.stems}

    def mixed_with(self, sources: Sequence[str]) -> tuple[str, ...]:
        """Return all stems, which add up to the mixture: `sources` first, then the others."""
        return (*sources, *(stem for stem in self.stems if stem not in sources))

    def draw_place(
        self, rng: np.random.Generator, *, frames: int, stem: str | None = None
    ) -> Place:
        """Draw where an excerpt starts.

        Args:
            rng: Random numbers.
            frames: Length of the excerpt, in samples at `sample_rate`.
            stem: If given, the excerpt contains a second in which this stem is active (if the split
                has one); None: every start is equally likely.

        Returns:
            The start of the excerpt.
        """
        starts = np.maximum(self._lengths - self._own_frames(frames), 0) + 1
        if stem is None or not len(self._active[stem]):
            # In seconds, so that tracks of higher rates are not more likely.
            ends = np.cumsum(starts / self._rates)
            track = int(np.searchsorted(ends, rng.random() * ends[-1], side="right"))
            return Place(track, int(rng.integers(starts[track])))
        track, second = self._active[stem][rng.integers(len(self._active[stem]))]
        rate = int(self._rates[track])
        # An excerpt shorter than a second lies within the active second.
        earliest, newest = sorted((0, int(self._own_frames(frames)[track]) - rate))
        shift = rng.integers(earliest, newest + 1)
        return Place(int(track), int(np.clip(second * rate - shift, 0, starts[track] - 1)))

    def shift_place(self, place: Place, *, frames: int, seconds: float, draw: float) -> Place:
        """Move a place within its track.

        Args:
            place: The place to move.
            frames: Length of the excerpt, in samples at `sample_rate`.
            seconds: Maximum shift in seconds, earlier or later.
            draw: Selects one of the possible starts, from 0 (first) to 1 (exclusive, last).

        Returns:
            The new place; the excerpt stays inside the track.
        """
        reach = round(seconds * self._rates[place.track])
        latest = max(int((self._lengths - self._own_frames(frames))[place.track]), 0)
        first, last = max(place.start - reach, 0), min(place.start + reach, latest)
        return Place(place.track, first + int(draw * (last - first + 1)))

    def read(self, place: Place, stem: str, *, frames: int) -> npt.NDArray[np.float32]:
        """Read an excerpt of a stem.

        Args:
            place: Its start.
            stem: Name of the stem.
            frames: Its length, in samples at `sample_rate`.

        Returns:
            The excerpt at `sample_rate`, shape (channel, frames), with zeros after the track's end.

        Raises:
            AudioFileError: The file cannot be read.
            DatasetError: It is shorter than stated in the manifest, or not a file of the data set.
        """
        track = self.tracks[place.track]
        own_frames = int(self._own_frames(frames)[place.track])
        wanted = min(own_frames, track.frames - place.start)
        audio = self._read(track, stem, place.start, wanted)
        if track.sample_rate != self.sample_rate or wanted < frames:
            audio = resample(
                audio, orig_rate=track.sample_rate, target_rate=self.sample_rate, length=frames
            )
        return audio

    def read_whole(self, track: PreparedTrack, stem: str) -> npt.NDArray[np.float32]:
        """Read a whole stem at the track's own rate, shape (channel, time).

        Raises:
            AudioFileError: The file cannot be read.
            DatasetError: It is shorter than stated in the manifest, or not a file of the data set.
        """
        return self._read(track, stem, 0, track.frames)

    def _own_frames(self, frames: int) -> npt.NDArray[np.int64]:
        """Compute the length of an excerpt in each track, in samples at the track's own rate."""
        return -(-frames * self._rates // self.sample_rate)

    def _read(
        self, track: PreparedTrack, stem: str, start: int, frames: int
    ) -> npt.NDArray[np.float32]:
        path = dataset_file(self.folder, track.stems[stem])
        audio = _read_healthy(path, start, frames)
        if audio is None:
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


def _read_healthy(path: Path, start: int, frames: int) -> npt.NDArray[np.float32] | None:
    """Read an excerpt in one call; None if there is any problem with the file.

    `read_audio` handles all kinds of files, but takes four times as long; it also reports the
    problem. Keeping files open was measured to save no time.
    """
    try:
        with soundfile.SoundFile(path) as file:
            file.seek(start)
            audio: npt.NDArray[np.float32] = file.read(frames, dtype="float32", always_2d=True).T
    except (OSError, RuntimeError):
        return None
    return audio if audio.shape[1] == frames and np.isfinite(audio).all() else None
