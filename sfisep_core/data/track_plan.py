"""Decide what is to be made of a track, and whether it is there already."""

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
class TrackJob:
    """What is to be made of a source track.

    Attributes:
        track: The source track.
        out: Folder of the prepared data set.
        sample_rate: Hz; None keeps the track's own.
        container: File format.
        encoding: Sample format.
        exclusions: Time ranges of this track to leave out.
        splits: All splits in which the data set has a track of this name.
        known: What an earlier run learnt of the source track.
        verify: Whether to read what is prepared to the end, not its headers only.
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
    """What is to be made.

    Attributes:
        job: What is wanted.
        origin: Of the source, as `Inspection` has it.
        source_rate: Hz.
        sample_rate: Of what is made, in Hz.
        channels: Of every file.
        spans: First sample at `sample_rate`, and sample after the last, by the part's name.
    """

    job: TrackJob
    origin: str
    source_rate: int
    sample_rate: int
    channels: int
    spans: dict[str, tuple[int, int]]

    @property
    def roles(self) -> tuple[str, ...]:
        """The files of a part. Training sums the stems, so that it needs no mixture."""
        track = self.job.track
        given = track.mixture and track.split != "train"
        return (*track.expected, MIXTURE) if given else track.expected

    def file(self, part: str, role: str) -> str:
        """Name a file, relative to the prepared data set.

        Raises:
            DatasetError: The part's name leads out of it.
        """
        return path_below(
            Path(), self.job.track.split, part, f"{role}.{self.job.container}"
        ).as_posix()


def make_plan(job: TrackJob, known: Inspection) -> TrackPlan:
    """Plan the parts of a track.

    Args:
        job: What is wanted.
        known: What the source track is like.
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
    """Give what was made of this source before, and refuse to replace another's track.

    Where the source has changed its split, what was made of it for the other split counts: a track
    held out must not be trained on.

    Args:
        plan: The track.
        tracks: What the manifest says.

    Raises:
        DatasetError: A track of this name was made of another source.
    """
    job, split = plan.job, plan.job.track.split
    # An edited source file makes another origin; what was made of the same place before is known.
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
    """Tell whether what was made before is what is planned, and still there."""
    job = plan.job
    expected = {
        name: (job.track.split, plan.origin, plan.sample_rate, last - first, job.encoding)
        for name, (first, last) in plan.spans.items()
    }
    found = {t.name: (t.split, t.origin, t.sample_rate, t.frames, t.encoding) for t in earlier}
    return (
        len(earlier) == len(found)
        and found == expected
        and all(
            t.files == {role: plan.file(t.name, role) for role in plan.roles}
            and all(_holds(job, t, role) for role in t.files)
            for t in earlier
        )
    )


def _holds(job: TrackJob, track: PreparedTrack, role: str) -> bool:
    """Tell whether a prepared file is there and of the size that the manifest says."""
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
