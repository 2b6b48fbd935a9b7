"""Separate a file into files, with memory that does not depend on its length."""

import os
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Protocol

import numpy as np

from sfisep_core.audio.files import AudioReader, check_output_format
from sfisep_core.audio.resample import resample_blocks, resampled_length
from sfisep_core.audio.stores import Samples, Store, Stores
from sfisep_core.audio.tag_reader import read_tags
from sfisep_core.audio.tags import NO_TAGS
from sfisep_core.errors import AudioFileError, ConfigError
from sfisep_core.results import SeparatedFile
from sfisep_core.separation.checks import LARGEST_SAMPLE
from sfisep_core.separation.output import Output
from sfisep_core.separation.stem_files import (
    check_room,
    encoded_bytes,
    existing_folder,
    make_folders,
    write_stems,
)


class Separate(Protocol):
    """Separate a stored mixture into stems, shape (source, channel, time)."""

    def __call__(self, mixture: Store, *, stores: Stores, sample_rate: int) -> Store:
        """Separate."""


def separate_file(
    path: Path,
    *,
    files: dict[str, Path],
    sources: Sequence[str],
    stored_sources: Sequence[int],
    sample_rate: int | None,
    output: Output,
    provenance: str,
    separate: Separate,
) -> SeparatedFile:
    """Separate a file into files.

    Args:
        path: Audio file.
        files: What to write, by name (`Output.files`).
        sources: Order of the stems that `separate` returns.
        stored_sources: Numbers of sources of the stores that `separate` needs at once.
        sample_rate: Rate in Hz to separate and write at; None = the file's own.
        output: How to write.
        provenance: Program and model, for the tags of the stems.
        separate: The separation.

    Returns:
        What was written.

    Raises:
        AudioFileError: A file cannot be read or written; no incomplete stem is left.
        ConfigError: The format does not support this rate or channel count.
    """
    started = time.monotonic()
    own = [file for file in files.values() if os.path.realpath(file) == os.path.realpath(path)]
    if own:
        msg = f"{path}: would be replaced by the stem {own[0]}: choose another folder for the stems"
        raise ConfigError(msg)
    room = existing_folder(next(iter(files.values())).parent)
    with ExitStack() as stack:
        reader = stack.enter_context(AudioReader(path))
        channels, orig_rate = reader.info.channels, reader.info.sample_rate
        target_rate = orig_rate if sample_rate is None else sample_rate
        try:
            check_output_format(
                output.container, output.encoding, channels, target_rate, output.bitrate
            )
        except ConfigError as error:
            msg = f"{path}: {error}"
            raise ConfigError(msg) from error
        expected = resampled_length(
            reader.info.frames, orig_rate=orig_rate, target_rate=target_rate
        )
        stores = stack.enter_context(Stores(room))
        check_room(
            room,
            stores.bytes_on_disk((channels,), expected)
            + sum(stores.bytes_on_disk((count, channels), expected) for count in stored_sources)
            + encoded_bytes(output, files=len(files), channels=channels, frames=expected),
        )
        mixture = stores.make((channels,), expected)
        for block in resample_blocks(
            _usable(reader, path), channels=channels, orig_rate=orig_rate, target_rate=target_rate
        ):
            mixture.append(block)
        tags = read_tags(path).with_provenance(provenance) if output.tags else NO_TAGS
        # After the input was checked, but before the work.
        make_folders(files.values())
        stems = separate(mixture, stores=stores, sample_rate=target_rate)
        gain = write_stems(
            mixture,
            stems,
            sources=sources,
            files=files,
            sample_rate=target_rate,
            output=output,
            channel_mask=reader.info.channel_mask,
            tags=tags,
        )
        frames = mixture.frames
    return SeparatedFile(
        path=path,
        stems=files,
        sample_rate=target_rate,
        channels=channels,
        frames=frames,
        seconds=frames / target_rate,
        elapsed=time.monotonic() - started,
        gain_db=20 * float(np.log10(gain)),
    )


def _usable(reader: AudioReader, path: Path) -> Iterator[Samples]:
    """Read a file, and reject samples whose squares overflow float32."""
    for block in reader.blocks():
        peak = np.abs(block).max(initial=0.0)
        if peak > LARGEST_SAMPLE:
            msg = (
                f"{path}: expected samples of at most {LARGEST_SAMPLE:.0e} (full scale is "
                f"1), found {peak:.0e}: repair that place, or export the file again"
            )
            raise AudioFileError(msg)
        yield block
