"""Source files of tracks: their content, and whether they have changed."""

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from sfisep_core.audio.file_reader import AudioInfo
from sfisep_core.audio.files import read_audio, read_info
from sfisep_core.data import musdb18
from sfisep_core.data.layouts import MIXTURE, SourceFile, SourceTrack
from sfisep_core.data.manifest import manifest_locked
from sfisep_core.data.records import RecordFile, journal_path
from sfisep_core.errors import DatasetError
from sfisep_core.foreign import Fields, read_json_object
from sfisep_core.foundation.digests import file_sha256

SOURCES_NAME = ".sources.json"


@dataclass(frozen=True)
class Inspection:
    """Stored properties of a source track, so that it need not be decoded again.

    Attributes:
        origin: Digest of its name and of the content of its files.
        sample_rate: Hz.
        channels: Channels of every file.
        frames: Samples of every file.
        state: Names, sizes and times of the files when they were inspected, as a digest.
    """

    origin: str
    sample_rate: int
    channels: int
    frames: int
    state: str


def read_sources(folder: Path) -> dict[str, Inspection]:
    """Read the inspections of source tracks by earlier runs.

    Args:
        folder: Prepared data set.

    Returns:
        Inspections by `source_key`. An unreadable file is ignored: tracks are then read again, and
        one that was edited in between counts as another track of the same name.
    """
    try:
        return _file.read(folder / SOURCES_NAME)
    except (OSError, ValueError):
        return {}


def _parse(path: Path) -> dict[str, Inspection]:
    try:
        return {key: _inspection(values) for key, values in read_json_object(path).items()}
    except ValueError:  # it is only a cache: damaged content is ignored
        return {}


def _inspection(values: object) -> Inspection:
    """Build an inspection from JSON values.

    Raises:
        ValueError: A field is missing, of another type or out of range.
    """
    fields = Fields(values, "inspection")
    return Inspection(
        origin=fields.text("origin"),
        sample_rate=fields.count("sample_rate", least=1),
        channels=fields.count("channels", least=1),
        frames=fields.count("frames", least=1),
        state=fields.text("state"),
    )


def _line(key: str, inspection: Inspection) -> str:
    return f"{json.dumps(key)}: {json.dumps(vars(inspection))}"


def _decode(key: Any, values: Any) -> tuple[str, Inspection | None]:
    return str(key), None if values is None else _inspection(values)


_file = RecordFile(
    _parse,
    line=_line,
    join=lambda lines: f"{{{', '.join(lines)}}}",
    order=lambda key: key,
    encode=vars,
    decode=_decode,
)


def remember_source(folder: Path, track: SourceTrack, inspection: Inspection) -> None:
    """Store the inspection of a source track for later runs.

    It is appended to a journal; `finish_sources` writes the file itself.

    Raises:
        OSError: It cannot be written.
    """
    with manifest_locked(folder):
        if read_sources(folder).get(source_key(track)) != inspection:
            _file.append(folder / SOURCES_NAME, {source_key(track): inspection})


def finish_sources(folder: Path) -> None:
    """Write the file of sources with all changes of its journal.

    Raises:
        OSError: It cannot be written.
    """
    path = folder / SOURCES_NAME
    if journal_path(path).is_file():
        with manifest_locked(folder):
            _file.write(path, read_sources(folder))


def source_key(track: SourceTrack) -> str:
    """Return a key for the location of a source track."""
    return str(track.path.resolve())


def file_state(track: SourceTrack) -> str:
    """Compute a digest of the files' names, sizes and times, without reading their content.

    Raises:
        OSError: A file is missing.
    """
    state = []
    for role, file in _files(track):
        stat = file.path.stat()
        state.append([role, file.path.name, file.stream, stat.st_size, stat.st_mtime_ns])
    return _digest([track.name, state])


def inspect(track: SourceTrack) -> Inspection:
    """Read the headers of a track's files, and the digests of their content.

    Raises:
        AudioFileError: A file cannot be read.
        DatasetError: The files are inconsistent or empty.
        OSError: A file cannot be read.
    """
    state = file_state(track)  # before reading, so that later changes are detected by the next run
    infos = {file.path: _info(file) for _, file in _files(track)}
    shapes = {(info.sample_rate, info.channels, info.frames) for info in infos.values()}
    if len(shapes) > 1:
        described = "; ".join(
            f"{_label(role, file)} {info.sample_rate} Hz, {info.channels} channels, "
            f"{info.frames} frames"
            for role, file in _files(track)
            for info in (infos[file.path],)
        )
        msg = (
            f"expected stems of one rate, channel count and length, got {described}: export "
            "them again, all alike"
        )
        raise DatasetError(msg)
    ((sample_rate, channels, frames),) = shapes
    if frames == 0:
        msg = "expected music, got stems of 0 frames: export them again"
        raise DatasetError(msg)
    digests = {path: file_sha256(path) for path in infos}
    content = [[role, file.stream, digests[file.path]] for role, file in _files(track)]
    return Inspection(_digest([track.name, content]), sample_rate, channels, frames, state)


def read_track(track: SourceTrack, inspection: Inspection) -> dict[str, npt.NDArray[np.float32]]:
    """Read the stems of a track, and its mixture if there is one.

    Returns:
        Audio by stem, and of "mixture", each of shape (channel, time).

    Raises:
        AudioFileError: A file cannot be read.
        DatasetError: It is shorter than its header states, or the streams differ in length.
    """
    audio: dict[str, npt.NDArray[np.float32]] = {}
    for role, file in _files(track):
        samples = _read(file, inspection)
        if role in audio:
            audio[role] += samples  # equal lengths are checked by `_read`
        else:
            audio[role] = samples
    lengths = {role: samples.shape[1] for role, samples in audio.items()}
    if len(set(lengths.values())) > 1:
        described = ", ".join(f"{role} {length} frames" for role, length in lengths.items())
        msg = (
            f"{track.path} is damaged: expected streams of one length, got {described}: copy or "
            "download it again"
        )
        raise DatasetError(msg)
    return audio


def _files(track: SourceTrack) -> list[tuple[str, SourceFile]]:
    """Return all files with their stem, in an order that depends only on names."""
    given = [(stem, file) for stem, files in sorted(track.stems.items()) for file in files]
    return [*given, (MIXTURE, track.mixture)] if track.mixture else given


def _label(role: str, file: SourceFile) -> str:
    own = role in (file.stream, file.path.stem, file.path.parent.name)
    return role if own else f"{role} ({file.path.name})"


def _info(file: SourceFile) -> AudioInfo:
    return musdb18.read_stem_info(file.path) if file.stream else read_info(file.path)


def _read(file: SourceFile, inspection: Inspection) -> npt.NDArray[np.float32]:
    if file.stream:
        return musdb18.read_stem(file.path, file.stream)
    samples, _ = read_audio(file.path)
    if samples.shape[1] != inspection.frames:
        msg = (
            f"{file.path} is damaged: expected {inspection.frames} frames, {samples.shape[1]} "
            "could be decoded; copy or download it again"
        )
        raise DatasetError(msg)
    return samples


def _digest(content: Any) -> str:
    return hashlib.sha256(json.dumps(content).encode()).hexdigest()
