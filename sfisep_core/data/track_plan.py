"""Plan the files of a track, and check whether they exist already."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from sfisep_core.audio.file_writer import Encoding
from sfisep_core.audio.files import read_info
from sfisep_core.audio.resample import resampled_length
from sfisep_core.data.exclusions import Exclusion, kept_spans
from sfisep_core.data.layouts import MIXTURE, SourceTrack
from sfisep_core.data.manifest import PreparedTrack
from sfisep_core.data.sources import Inspection
from sfisep_core.errors import AudioFileError, DatasetError
from sfisep_core.foreign import path_below
from sfisep_core.foundation.digests import file_sha256

Container = Literal["wav", "flac"]


@dataclass(frozen=True)
class PreparationJob:
    """Job to prepare a source track.

    Attributes:
        track: The source track.
        out: Folder of the prepared data set.
        sample_rate: Hz; None keeps the track's own.
        container: File format.
        encoding: Sample format.
        exclusions: Time ranges of this track to leave out.
        splits: All splits in which the data set has a track of this name.
        known: Inspection of the source track by an earlier run.
        verify: Whether to read existing files completely, not only their headers.
    """

    track: SourceTrack
    out: Path
    sample_rate: int | None
    container: Container
    encoding: Encoding
    exclusions: tuple[Exclusion, ...]
    splits: frozenset[str]
    known: Inspection | None
    verify: bool


@dataclass(frozen=True)
class TrackPlan:
    """Planned files of a track.

    Attributes:
        job: The job.
        origin: Digest of the source, see `Inspection`.
        source_rate: Hz.
        sample_rate: Rate of the prepared files in Hz.
        channels: Number of channels of every file.
        spans: First sample at `sample_rate`, and sample after the last, by the part's name.
    """

    job: PreparationJob
    origin: str
    source_rate: int
    sample_rate: int
    channels: int
    spans: dict[str, tuple[int, int]]

    @property
    def roles(self) -> tuple[str, ...]:
        """Roles of the files of a part. Training sums the stems, so it needs no mixture."""
        track = self.job.track
        given = track.mixture and track.split != "train"
        return (*track.expected, MIXTURE) if given else track.expected

    def file(self, part: str, role: str) -> str:
        """Return the path of a file, relative to the prepared data set.

        Raises:
            DatasetError: The part's name leads out of it.
        """
        return path_below(
            Path(), self.job.track.split, part, f"{role}.{self.job.container}"
        ).as_posix()


def make_plan(job: PreparationJob, known: Inspection) -> TrackPlan:
    """Plan the parts of a track.

    Args:
        job: The job.
        known: Inspection of the source track.
    """
    name, sample_rate = job.track.name, job.sample_rate or known.sample_rate
    length = resampled_length(known.frames, orig_rate=known.sample_rate, target_rate=sample_rate)
    spans = kept_spans(length, sample_rate, job.exclusions)
    named = {f"{name}.{number}": span for number, span in enumerate(spans, start=1)}
    return TrackPlan(
        job=job,
        origin=known.origin,
        source_rate=known.sample_rate,
        sample_rate=sample_rate,
        channels=known.channels,
        spans=named if job.exclusions else {name: spans[0]},
    )


def earlier_tracks(plan: TrackPlan, tracks: Sequence[PreparedTrack]) -> list[PreparedTrack]:
    """Return tracks prepared from this source before, and refuse to replace another's track.

    If the split of the source has changed, they include those of the old split: a validation track
    must not be used for training.

    Args:
        plan: The track.
        tracks: Tracks of the manifest.

    Raises:
        DatasetError: A track of this name was prepared from another source.
    """
    job, split = plan.job, plan.job.track.split
    # An edited source file changes the origin; the earlier inspection has the old one.
    own = {plan.origin} | ({job.known.origin} if job.known else set())
    earlier = []
    for track in tracks:
        if track.origin in own:
            if track.split == split or track.split not in job.splits:
                earlier.append(track)
        elif track.split == split and track.name in plan.spans:
            msg = (
                f"another recording named {track.name} has been prepared into this folder before "
                "(or this one, before it was edited or moved): rename the track's folder, or "
                "prepare into another folder"
            )
            raise DatasetError(msg)
    return earlier


def is_done(plan: TrackPlan, earlier: Sequence[PreparedTrack]) -> bool:
    """Tell whether the earlier tracks match the plan and still exist."""
    job = plan.job
    expected = {
        name: (job.track.split, plan.origin, plan.sample_rate, last - first, job.encoding)
        for name, (first, last) in plan.spans.items()
    }
    prepared = {t.name: (t.split, t.origin, t.sample_rate, t.frames, t.encoding) for t in earlier}
    return (
        len(earlier) == len(prepared)
        and prepared == expected
        and all(
            t.files == {role: plan.file(t.name, role) for role in plan.roles}
            and all(_holds(job, t, role) for role in t.files)
            for t in earlier
        )
    )


def _holds(job: PreparationJob, track: PreparedTrack, role: str) -> bool:
    """Tell whether a prepared file exists with the size stated in the manifest."""
    path = job.out / track.files[role]
    try:
        info = read_info(path)
        whole = not job.verify or file_sha256(path) == track.sha256[role]
    except (AudioFileError, OSError, KeyError, ValueError):
        return False
    return whole and (info.sample_rate, info.channels, info.frames, info.encoding) == (
        track.sample_rate,
        track.channels,
        track.frames,
        track.encoding,
    )
