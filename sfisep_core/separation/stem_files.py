"""Write the stems of one recording to files: all of them or, where one fails, none."""

import os
import shutil
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path

import numpy as np

from sfisep_core.audio.files import AudioWriter, complete
from sfisep_core.audio.formats import STEM_MP4
from sfisep_core.audio.stem_mp4 import MIXTURE, StemFileWriter
from sfisep_core.audio.stores import BLOCK_FRAMES, Samples, Signal
from sfisep_core.audio.tags import NO_TAGS, Tags
from sfisep_core.errors import AudioFileError
from sfisep_core.separation.output import RESIDUAL, Output, left_by

# Of the stems, at least; that lossy formats find a full disk before the end is not worth guessing.
_SAMPLE_BYTES = {"wav": 2, "flac": 1, "stem.mp4": 1}
# The largest value that 16-bit samples hold, so that a rescaled peak is not clipped.
_FULL_SCALE = 32767 / 32768


def write_stems(
    mixture: Signal,
    stems: Signal,
    *,
    sources: Sequence[str],
    files: Mapping[str, Path],
    sample_rate: int,
    output: Output,
    channel_mask: int = 0,
    tags: Tags = NO_TAGS,
) -> float:
    """Write stems, and what `output` makes of them and the mixture.

    Args:
        mixture: Shape (channel, time).
        stems: Shape (source, channel, time), as long as the mixture.
        sources: Names in the order of the source axis.
        files: What to write, by name (`Output.files`); their folders exist.
        sample_rate: Hz.
        output: Format and clip rule.
        channel_mask: Places of the loudspeakers as WAV numbers them; 0 = not told.
        tags: Tags of the recording; stems have their names in the title.

    Returns:
        The gain that was applied to all files alike so that none clips; 1 = none.

    Raises:
        AudioFileError: A file cannot be written; no file is left half written.
        ConfigError: The format cannot hold this rate or channel count.
    """
    names, together = list(files), output.container == STEM_MP4
    written = _Written(mixture, stems, sources, [MIXTURE, *names] if together else names)
    gain = 1.0
    if output.encoding != "float32" and output.clip_mode == "rescale":
        peak = max((float(np.abs(block).max(initial=0.0)) for block in written), default=0.0)
        gain = _FULL_SCALE / peak if peak > 1.0 else 1.0
    channels = mixture.leading[0]
    with ExitStack() as stack:
        if together:
            writer = stack.enter_context(
                StemFileWriter(
                    files[names[0]],
                    stems=names,
                    sample_rate=sample_rate,
                    channels=channels,
                    encoding=output.encoding,
                    tags=tags,
                )
            )
            for block in written:
                writer.write(_turned_down(block, gain))
            complete([writer])
            return gain
        # No file gets its final name before all are complete: an error on one leaves none behind.
        writers = [
            stack.enter_context(
                AudioWriter(
                    file,
                    sample_rate=sample_rate,
                    channels=channels,
                    encoding=output.encoding,
                    bitrate=output.bitrate,
                    frames=mixture.frames,
                    channel_mask=channel_mask,
                    tags=tags.of_stem(name),
                )
            )
            for name, file in files.items()
        ]
        for block in written:
            for writer_of_stem, signal in zip(writers, block, strict=True):
                writer_of_stem.write(_turned_down(signal, gain))
        complete(writers)
    return gain


def _turned_down(signal: Samples, gain: float) -> Samples:
    return signal if gain == 1.0 else signal * np.float32(gain)


class _Written:
    """What is written, as often as it is needed: blocks of shape (name, channel, time)."""

    def __init__(
        self, mixture: Signal, stems: Signal, sources: Sequence[str], names: Sequence[str]
    ) -> None:
        self._mixture, self._stems = mixture, stems
        self._sources, self._names = list(sources), names

    def __iter__(self) -> Iterator[Samples]:
        for start in range(0, self._mixture.frames, BLOCK_FRAMES):
            stop = min(start + BLOCK_FRAMES, self._mixture.frames)
            mixture, stems = self._mixture.read(start, stop), self._stems.read(start, stop)
            yield np.stack([signal_of(name, mixture, stems, self._sources) for name in self._names])


def signal_of(name: str, mixture: Samples, stems: Samples, sources: Sequence[str]) -> Samples:
    """Return what is written under a name.

    Args:
        name: One of `Output.names`, or that of the mixture.
        mixture: Shape (channel, time).
        stems: Shape (source, channel, time).
        sources: Names on the source axis.
    """
    if name == MIXTURE:
        return mixture
    if name == RESIDUAL:
        signal: Samples = mixture - stems.sum(axis=0)
    elif name in sources:
        signal = stems[sources.index(name)]
    else:
        left = left_by(name, sources)
        assert left is not None
        signal = mixture - stems[sources.index(left)]
    return signal


def encoded_bytes(output: Output, *, files: int, channels: int, frames: int) -> int:
    """Estimate, from below, the bytes that the files of a recording are going to take.

    Args:
        output: Format.
        files: How many.
        channels: Of every file.
        frames: Samples of every channel.
    """
    return frames * channels * files * _SAMPLE_BYTES.get(output.container, 0)


def check_room(folder: Path, needed: int) -> None:
    """Refuse work for whose temporary samples and results the disk has no room.

    Args:
        folder: An existing one on the disk.
        needed: Bytes.

    Raises:
        AudioFileError: There are fewer.
    """
    try:
        free = shutil.disk_usage(folder).free
    except OSError:  # making the folder will say what is wrong with it
        return
    if needed > free:
        msg = (
            f"output folder {folder}: expected {needed / 1e6:.1f} MB of free space for temporary "
            f"samples and stems, found {free / 1e6:.1f} MB: free some, or choose another folder"
        )
        raise AudioFileError(msg)


def existing_folder(folder: Path) -> Path:
    """Return the folder, or the nearest one above that exists: it will be on the same disk."""
    folder = folder.absolute()
    try:
        while not folder.is_dir() and folder != folder.parent:
            folder = folder.parent
    except OSError:  # a name too long, or a folder that may not be read: making it will say so
        return folder.parent
    return folder


def make_folders(files: Iterable[Path]) -> None:
    """Make the folders of files, and refuse names that the file system does not take.

    Raises:
        AudioFileError: A folder cannot be made, or a name cannot be written.
    """
    for file in files:
        _make_folder(file.parent)
        _check_name(file)


def _check_name(file: Path) -> None:
    try:
        os.stat(file)
    except FileNotFoundError:
        return
    except OSError as error:
        msg = (
            f"stem {file}: expected a name that can be written, got {error.strerror}: change the "
            "pattern of the file names, or rename the input"
        )
        raise AudioFileError(msg) from error


def _make_folder(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        msg = (
            f"output folder {folder}: expected a folder that can be made and written to, got "
            f"{error.strerror}: choose another folder"
        )
        raise AudioFileError(msg) from error
