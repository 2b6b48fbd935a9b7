"""Generate a demo corpus of music with true stems, which is a prepared data set.

The songs are synthetic: nothing is downloaded, there is no copyright, and the same arguments give
the same bytes on every run.
"""

import contextlib
import json
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import soundfile as sf

from sfisep_core.audio.files import read_audio
from sfisep_core.data.demo_players import play_stem
from sfisep_core.data.demo_song import plan_song
from sfisep_core.data.layouts import MIXTURE, STEMS, SourceFile, SourceTrack
from sfisep_core.data.manifest import (
    MANIFEST_NAME,
    PreparedTrack,
    finish_manifest,
    read_existing,
    update_manifest,
)
from sfisep_core.data.records import write_json
from sfisep_core.data.sources import inspect
from sfisep_core.data.track_preparation import rms_per_second
from sfisep_core.errors import ConfigError, DatasetError
from sfisep_core.foundation.atomic import written_whole
from sfisep_core.foundation.digests import file_sha256

SETTINGS_NAME = "demo.json"

_MIN_RATE, _MAX_RATE = 4000, 192000


@dataclass(frozen=True)
class DemoProgress:
    """Progress: the track that is ready, and how many of all tracks are."""

    track: str
    done: int
    total: int


def render_track(
    *, seed: int, track: int, seconds: float, sample_rate: int
) -> dict[str, npt.NDArray[np.int16]]:
    """Render the stems of one song.

    Args:
        seed: seed of the corpus, 0 or more.
        track: number of the track, 0 or more; the song depends on (seed, track) only.
        seconds: length, more than 0.
        sample_rate: in Hz, 4000 to 192000. The score is the same at all rates.

    Returns:
        The stems by name, in the order of `STEMS`, each of shape (2, frames). Their sum is the
        mixture; it fits 16 bits.

    Raises:
        ConfigError: if an argument is out of its range.
    """
    _check_settings(seed, seconds, sample_rate)
    if track < 0:
        msg = f"The number of a demo track must be 0 or more, got {track}."
        raise ConfigError(msg)
    song = plan_song(seed=seed, track=track, seconds=seconds, stems=STEMS)
    stems = {
        stem: play_stem(song, stem, seed=seed, track=track, index=index, sample_rate=sample_rate)
        for index, stem in enumerate(STEMS)
    }
    signals = [*stems.values(), np.sum(list(stems.values()), axis=0)]
    loudest = max(float(np.max(np.abs(samples))) for samples in signals)
    # Headroom of two steps for the rounding errors of four stems.
    scale = (32767.0 * song.peak - 2.0) / max(loudest, 1e-9)
    return {stem: np.rint(scale * samples).astype(np.int16) for stem, samples in stems.items()}


def generate_demo_corpus(
    directory: Path,
    *,
    num_train: int = 8,
    num_valid: int = 2,
    num_test: int = 2,
    seconds: float = 30.0,
    sample_rate: int = 44100,
    seed: int = 0,
    progress: Callable[[DemoProgress], None] | None = None,
) -> list[Path]:
    """Write `<directory>/{train,valid,test}/<track>/{mixture,vocals,drums,bass,other}.wav`.

    The directory is a prepared data set, with a manifest, and MUSDB18-HQ's layout at the same time.
    A track folder that already contains its five files with the right rate and length is kept. The
    settings are stored in `<directory>/demo.json`: a directory contains one corpus.

    Args:
        directory: folder of the splits; created if missing.
        num_train: number of training tracks, 0 or more.
        num_valid: number of validation tracks, 0 or more; their numbers follow the training ones.
        num_test: number of test tracks, 0 or more; their numbers follow the validation ones.
        seconds: length of each track, more than 0.
        sample_rate: in Hz, 4000 to 192000.
        seed: seed of the corpus, 0 or more.
        progress: called after each track; None reports nothing.

    Returns:
        The track folders: train, then valid, then test.

    Raises:
        ConfigError: if a setting is out of its range.
        DatasetError: if the directory contains a corpus with other settings, or if it or a file
            cannot be written.
    """
    _check_settings(seed, seconds, sample_rate)
    counts = {"train": num_train, "valid": num_valid, "test": num_test}
    for split, count in counts.items():
        if count < 0:
            msg = f"num_{split} of the demo corpus must be 0 or more, got {count}."
            raise ConfigError(msg)
    splits = [split for split, count in counts.items() for _ in range(count)]
    if not splits:
        msg = "The demo corpus would hold no track: set num_train, num_valid or num_test above 0."
        raise ConfigError(msg)
    numbers = {f"num_{split}": count for split, count in counts.items()}
    _claim(directory, {"seed": seed, "seconds": seconds, "sample_rate": sample_rate, **numbers})
    known = {(track.split, track.name) for track in read_existing(directory)}
    folders: list[Path] = []
    described: list[PreparedTrack] = []
    for track, split in enumerate(splits):
        folder = directory / split / f"demo_{track:04d}"
        with _write_errors(folder):
            folder.mkdir(parents=True, exist_ok=True)
            complete = _is_complete(folder, seconds, sample_rate)
            if not complete:
                stems = render_track(
                    seed=seed, track=track, seconds=seconds, sample_rate=sample_rate
                )
                write_track(folder, stems, sample_rate)
            if not complete or (split, folder.name) not in known:
                described.append(_describe(folder, split))
        folders.append(folder)
        if progress is not None:
            progress(DemoProgress(folder.name, len(folders), len(splits)))
    # Once, at the end: after an interrupted run, the next one adds the complete tracks.
    with _write_errors(directory / MANIFEST_NAME):
        update_manifest(directory, add=described)
        finish_manifest(directory)
    return folders


def write_track(
    folder: Path, stems: dict[str, npt.NDArray[np.int16]], sample_rate: int
) -> dict[str, Path]:
    """Write the stems of a song and their sum as 16-bit WAV files, without incomplete files.

    Args:
        folder: Folder of the track, which exists.
        stems: Result of `render_track`; their sum fits 16 bits.
        sample_rate: In Hz.

    Returns:
        The file of each stem and of "mixture", `<folder>/<name>.wav`.

    Raises:
        OSError: If a file cannot be written.
        soundfile.SoundFileError: Likewise.
    """
    mixture = np.sum(list(stems.values()), axis=0, dtype=np.int32).astype(np.int16)
    files = {}
    for name, samples in {**stems, MIXTURE: mixture}.items():
        files[name] = folder / f"{name}.wav"
        with written_whole(files[name]) as temporary:
            sf.write(temporary, samples.T, sample_rate, subtype="PCM_16", format="WAV")
    return files


@contextlib.contextmanager
def _write_errors(path: Path) -> Iterator[None]:
    """Convert errors of the disk to an error that names the path."""
    try:
        yield
    except (OSError, sf.SoundFileError) as error:
        msg = (
            f"Cannot write {path} of the demo corpus: {error}. "
            "Check the free space and the permissions, or name another directory."
        )
        raise DatasetError(msg) from error


def _describe(folder: Path, split: str) -> PreparedTrack:
    """Describe a track that is complete, as if it had been prepared from its own files."""
    files = {name: folder / f"{name}.wav" for name in (*STEMS, MIXTURE)}
    source = SourceTrack(
        name=folder.name,
        split=split,
        path=folder,
        stems={stem: (SourceFile(files[stem]),) for stem in STEMS},
        mixture=SourceFile(files[MIXTURE]),
    )
    known = inspect(source)
    # Training sums the stems; for the other splits a prepared set names the given mixture.
    roles = STEMS if split == "train" else (*STEMS, MIXTURE)
    names = {role: f"{split}/{folder.name}/{role}.wav" for role in roles}
    return PreparedTrack(
        name=folder.name,
        split=split,
        sample_rate=known.sample_rate,
        channels=known.channels,
        frames=known.frames,
        stems={stem: names[stem] for stem in STEMS},
        activity={
            stem: rms_per_second(read_audio(files[stem])[0], known.sample_rate) for stem in STEMS
        },
        origin=known.origin,
        mixture=names.get(MIXTURE),
        encoding="int16",
        sha256={role: file_sha256(files[role]) for role in roles},
    )


def _claim(directory: Path, settings: dict[str, float]) -> None:
    """Store the settings, or raise an error if the directory has a corpus with other settings."""
    path = directory / SETTINGS_NAME
    try:
        directory.mkdir(parents=True, exist_ok=True)
        if not path.exists():
            write_json(path, settings)
            return
        stored = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        msg = (
            f"Cannot write the demo corpus to {directory}: {error.strerror}. "
            "Check the free space and the permissions, or name another directory."
        )
        raise DatasetError(msg) from error
    except ValueError:  # not JSON
        stored = {}
    if stored != settings:
        there = stored if isinstance(stored, dict) else {}
        different = [
            f"{name} is {value}, {path.name} says {there.get(name, 'nothing')}"
            for name, value in settings.items()
            if there.get(name) != value
        ]
        msg = (
            f"Cannot write the demo corpus to {directory}: it holds one of other settings "
            f"({'; '.join(different)}). Choose another directory, or the same settings."
        )
        raise DatasetError(msg)


def _check_settings(seed: int, seconds: float, sample_rate: int) -> None:
    if seed < 0:
        msg = f"The seed of the demo corpus must be 0 or more, got {seed}."
        raise ConfigError(msg)
    if not _MIN_RATE <= sample_rate <= _MAX_RATE:
        msg = (
            f"The sample rate of the demo corpus must lie between {_MIN_RATE} and {_MAX_RATE} Hz, "
            f"got {sample_rate}."
        )
        raise ConfigError(msg)
    if not math.isfinite(seconds) or round(seconds * sample_rate) < 1:
        msg = (
            "The length of a demo track must be a number of seconds above 0 that holds at least "
            f"one sample at {sample_rate} Hz, got {seconds}."
        )
        raise ConfigError(msg)


def _is_complete(folder: Path, seconds: float, sample_rate: int) -> bool:
    frames = round(seconds * sample_rate)
    for name in (MIXTURE, *STEMS):
        try:
            info = sf.info(folder / f"{name}.wav")
        except sf.SoundFileError:
            return False
        if (info.samplerate, info.frames, info.channels) != (sample_rate, frames, 2):
            return False
    return True
