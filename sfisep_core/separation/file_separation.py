"""Separate a file into files, in memory that does not depend on its length."""

import os
import shutil
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Protocol, get_args

import numpy as np

from sfisep_core.audio.files import AudioReader, AudioWriter, Encoding, check_output_format
from sfisep_core.audio.resample import resample_blocks, resampled_length
from sfisep_core.audio.stores import BLOCK_FRAMES, Samples, Store, Stores
from sfisep_core.errors import AudioFileError, ConfigError
from sfisep_core.results import SeparatedFile
from sfisep_core.separation.file_names import stem_file_name

ClipMode = Literal["rescale", "clamp", "none"]
Container = Literal["wav", "flac", "mp3", "ogg", "opus"]

RESIDUAL = "residual"
# Of float files, which may hold up to 3e38: sums of powers are to be numbers.
LARGEST_SAMPLE = 1e12

# Of the stems, at least; that lossy formats find a full disk before the end is not worth guessing.
_SAMPLE_BYTES = {"wav": 2, "flac": 1}
# The largest value that 16-bit samples hold, so that a rescaled peak is not clipped.
_FULL_SCALE = 32767 / 32768


@dataclass(frozen=True)
class Output:
    """What is written, and how.

    Attributes:
        container: File format.
        encoding: "int16", "int24" or "float32" (WAV only); None = 24 bit in WAV and FLAC, and what
            the codec has in the others.
        clip_mode: What to do when a stem exceeds full scale: "rescale" turns all files down alike,
            "clamp" cuts peaks off, "none" leaves them to the encoder, which cuts them off too.
            Floating-point output is never touched.
        stems: The stems to write; None = all.
        two_stems: Write this stem and `no_<stem>`, the mixture without it, and nothing else.
        residual: Also write `residual`, what the sum of all stems lacks of the mixture.
        filename: Of a file below the output folder, with {track}, {stem} and {ext}.
    """

    container: Container = "wav"
    encoding: Encoding | None = None
    clip_mode: ClipMode = "rescale"
    stems: tuple[str, ...] | None = None
    two_stems: str | None = None
    residual: bool = False
    filename: str = "{stem}.{ext}"

    def names(self, sources: Sequence[str]) -> list[str]:
        """Give the names of what is written.

        Args:
            sources: Stems of the model, in order.

        Raises:
            ConfigError: The model has no such stem, or the options contradict each other.
        """
        if self.stems is not None and not self.stems:
            msg = "stems: expected one or more, got none"
            raise ConfigError(msg)
        if self.clip_mode not in get_args(ClipMode):
            msg = f"clip mode: expected rescale, clamp or none, got {self.clip_mode!r}"
            raise ConfigError(msg)
        if self.two_stems is not None and (self.stems is not None or self.residual):
            msg = "two stems are one stem and the rest: leave --stems and --residual out"
            raise ConfigError(msg)
        wanted = [self.two_stems] if self.two_stems is not None else list(self.stems or sources)
        unknown = [name for name in wanted if name not in sources]
        if unknown:
            msg = f"stem {unknown[0]!r}: expected one of this model's, {', '.join(sources)}"
            raise ConfigError(msg)
        if self.two_stems is not None:
            return [self.two_stems, f"no_{self.two_stems}"]
        return [name for name in sources if name in wanted] + [RESIDUAL] * self.residual

    def files(self, track: str, out_dir: Path, sources: Sequence[str]) -> dict[str, Path]:
        """Give the file of everything that is written of an input, by name.

        Args:
            track: Name of the input.
            out_dir: Folder that `filename` starts from.
            sources: Stems of the model, in order.

        Raises:
            ConfigError: As `names`; or `filename` has unknown fields, leads out of the folder, or
                gives two stems one name.
        """
        names = self.names(sources)
        files = {
            name: out_dir
            / stem_file_name(self.filename, track=track, stem=name, ext=self.container)
            for name in names
        }
        inside = all(
            file.is_relative_to(out_dir) and ".." not in file.relative_to(out_dir).parts
            for file in files.values()
        )
        endings = {file.suffix.lower() for file in files.values()}
        if len(set(files.values())) < len(names) or not inside or endings != {f".{self.container}"}:
            msg = (
                f"file name {self.filename!r}: expected a name of its own for every stem, inside "
                f"the output folder, that ends in .{{ext}}; as in {{track}}/{{stem}}.{{ext}}"
            )
            raise ConfigError(msg)
        return files


class Separate(Protocol):
    """Separate a stored mixture into stems, shape (source, channel, time)."""

    def __call__(self, mixture: Store, *, stores: Stores, sample_rate: int) -> Store:
        """Separate."""


def separate_file(
    path: Path,
    *,
    files: dict[str, Path],
    sources: Sequence[str],
    sample_rate: int | None,
    output: Output,
    separate: Separate,
) -> SeparatedFile:
    """Separate a file into files.

    Args:
        path: Audio file.
        files: What to write, by name (`Output.files`).
        sources: Order of the stems that `separate` gives.
        sample_rate: Rate in Hz to separate and write at; None = the file's own.
        output: How to write.
        separate: The separation.

    Returns:
        What was written.

    Raises:
        AudioFileError: A file cannot be read or written; no stem is left half written.
        ConfigError: The format cannot hold this rate or channel count.
    """
    started = time.monotonic()
    own = [file for file in files.values() if os.path.realpath(file) == os.path.realpath(path)]
    if own:
        msg = f"{path}: would be replaced by the stem {own[0]}: choose another folder for the stems"
        raise ConfigError(msg)
    folders = {file.parent for file in files.values()}
    room = _existing(next(iter(files.values())).parent)
    with ExitStack() as stack:
        reader = stack.enter_context(AudioReader(path))
        channels, orig_rate = reader.info.channels, reader.info.sample_rate
        target_rate = orig_rate if sample_rate is None else sample_rate
        try:
            check_output_format(output.container, output.encoding, channels, target_rate)
        except ConfigError as error:
            msg = f"{path}: {error}"
            raise ConfigError(msg) from error
        expected = resampled_length(
            reader.info.frames, orig_rate=orig_rate, target_rate=target_rate
        )
        stores = stack.enter_context(Stores(room))
        _check_room(
            room,
            stores.bytes_on_disk((channels,), expected)
            + stores.bytes_on_disk((len(sources), channels), expected)
            + expected * channels * len(files) * _SAMPLE_BYTES.get(output.container, 0),
        )
        mixture = stores.make((channels,), expected)
        for block in resample_blocks(
            _usable(reader, path), channels=channels, orig_rate=orig_rate, target_rate=target_rate
        ):
            mixture.append(block)
        # Not before the input is known to be good, and not after the work.
        for folder in folders:
            _make_folder(folder)
        for file in files.values():
            _check_name(file)
        stems = separate(mixture, stores=stores, sample_rate=target_rate)
        written = _Written(mixture, stems, sources, list(files))
        gain = 1.0
        if output.encoding != "float32" and output.clip_mode == "rescale":
            peak = max((float(np.abs(block).max(initial=0.0)) for block in written), default=0.0)
            gain = _FULL_SCALE / peak if peak > 1.0 else 1.0
        # No stem gets its final name before all are complete: an error on one leaves none behind.
        writers = [
            stack.enter_context(
                AudioWriter(
                    file,
                    sample_rate=target_rate,
                    channels=channels,
                    encoding=output.encoding,
                    frames=mixture.frames,
                )
            )
            for file in files.values()
        ]
        for block in written:
            for writer, signal in zip(writers, block, strict=True):
                writer.write(signal if gain == 1.0 else signal * np.float32(gain))
        for writer in writers:
            writer.finish()
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
    """Read a file, and refuse samples whose powers 32 bits do not hold."""
    for block in reader.blocks():
        peak = np.abs(block).max(initial=0.0)
        if peak > LARGEST_SAMPLE:
            msg = (
                f"{path}: expected samples of at most {LARGEST_SAMPLE:.0e} (full scale is "
                f"1), found {peak:.0e}: repair that place, or export the file again"
            )
            raise AudioFileError(msg)
        yield block


class _Written:
    """What is written, as often as it is needed: blocks of shape (name, channel, time)."""

    def __init__(
        self, mixture: Store, stems: Store, sources: Sequence[str], names: Sequence[str]
    ) -> None:
        self._mixture, self._stems = mixture, stems
        self._sources, self._names = list(sources), names

    def __iter__(self) -> Iterator[Samples]:
        for start in range(0, self._mixture.frames, BLOCK_FRAMES):
            stop = min(start + BLOCK_FRAMES, self._mixture.frames)
            mixture, stems = self._mixture.read(start, stop), self._stems.read(start, stop)
            yield np.stack([self._signal(name, mixture, stems) for name in self._names])

    def _signal(self, name: str, mixture: Samples, stems: Samples) -> Samples:
        if name == RESIDUAL:
            signal: Samples = mixture - stems.sum(axis=0)
        elif name in self._sources:
            signal = stems[self._sources.index(name)]
        else:
            signal = mixture - stems[self._sources.index(name.removeprefix("no_"))]
        return signal


def _existing(folder: Path) -> Path:
    """Give the folder, or the nearest one above that is there: it will be on the same disk."""
    folder = folder.absolute()
    try:
        while not folder.is_dir() and folder != folder.parent:
            folder = folder.parent
    except OSError:  # a name too long, or a folder that may not be read: making it will say so
        return folder.parent
    return folder


def _check_room(folder: Path, needed: int) -> None:
    """Refuse work for whose temporary samples and results the disk has no room."""
    try:
        free = shutil.disk_usage(folder).free
    except OSError:  # making the folder will say what is wrong with it
        return
    if needed > free:
        msg = (
            f"output folder {folder}: expected {needed / 1e6:.1f} MB of free space for temporary "
            f"samples and stems, found {free / 1e6:.1f} MB: free some, or choose another --out"
        )
        raise AudioFileError(msg)


def _check_name(file: Path) -> None:
    """Refuse, before any work, a name that the file system does not take."""
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
            f"{error.strerror}: choose another --out"
        )
        raise AudioFileError(msg) from error
