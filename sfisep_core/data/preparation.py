"""Request and result of `prepare_dataset`."""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from sfisep_core.audio.file_writer import Encoding, check_output_format
from sfisep_core.audio.rates import MAX_SAMPLE_RATE, MIN_SAMPLE_RATE
from sfisep_core.data.layouts import Layout
from sfisep_core.data.manifest import PreparedTrack
from sfisep_core.data.track_plan import Container
from sfisep_core.errors import ConfigError
from sfisep_core.foundation.jobs import Execution


@dataclass(frozen=True, kw_only=True)
class PreparationRequest(Execution):
    """Request of `prepare_dataset`; see `Execution` for jobs, engine and shard.

    Attributes:
        source: Folder in a layout of `find_tracks`. Without validation tracks, some of the training
            tracks are held out: those of MUSDB18, or see `hold_out_tracks`.
        out: Folder to write.
        layout: Layout of `source`; "auto" detects it.
        stem_map: Stems whose files have other names, see `parse_stem_map`.
        sample_rate: Rate to resample to in Hz, 4000 to 384000; None keeps each track's own.
        container: File format.
        encoding: Sample format; the integers clip at full scale, with a warning.
        exclude: Time ranges `TRACK:START-END` in seconds to leave out; the parts before and after
            become separate tracks.
        strict: Whether the first fault ends the work.
        verify: Whether to compare the content of existing files with their digests.

    Raises:
        ConfigError: A setting is out of range or has another form.
    """

    source: Path
    out: Path
    layout: Layout = "auto"
    stem_map: Sequence[str] = ()
    sample_rate: int | None = None
    container: Container = "wav"
    encoding: Encoding = "int16"
    exclude: Sequence[str] = ()
    strict: bool = False
    verify: bool = False

    def __post_init__(self) -> None:
        """Check values."""
        super().__post_init__()
        rate = self.sample_rate
        if rate is not None and not MIN_SAMPLE_RATE <= rate <= MAX_SAMPLE_RATE:
            msg = (
                f"preparing {self.source}: expected a sample rate of {MIN_SAMPLE_RATE} to "
                f"{MAX_SAMPLE_RATE} Hz, got {rate} Hz: choose another --sr"
            )
            raise ConfigError(msg)
        if os.path.realpath(self.out) == os.path.realpath(self.source):
            msg = (
                f"preparing {self.source}: the data set would be written over the source files: "
                "choose another folder"
            )
            raise ConfigError(msg)
        check_output_format(self.container, self.encoding, 1, rate or MIN_SAMPLE_RATE)


@dataclass(frozen=True)
class PreparedDataset:
    """Result of `prepare_dataset`.

    Attributes:
        folder: The prepared data set.
        tracks: All tracks of its manifest.
        skipped: Name and reason of tracks of the source that could not be prepared.
        written: Number of tracks prepared by this call.
    """

    folder: Path
    tracks: list[PreparedTrack]
    skipped: list[tuple[str, str]]
    written: int


@dataclass(frozen=True)
class PrepareProgress:
    """Progress of the preparation: `track` is done, `done` of `total`."""

    track: str
    done: int
    total: int
