"""Prepare a data set for training: stems of one rate and one format, and a manifest."""

import hashlib
import logging
import os
from collections.abc import Callable, Iterable, Sequence, Set
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from sfisep_core.audio.file_reader import MAX_SAMPLE_RATE, MIN_SAMPLE_RATE
from sfisep_core.audio.files import read_audio, read_info, write_audio
from sfisep_core.audio.resample import resample, resampled_length
from sfisep_core.data.layouts import (
    STEMS,
    Exclusion,
    TrackFolder,
    find_tracks,
    hold_out_tracks,
    parse_exclusions,
)
from sfisep_core.data.manifest import PreparedTrack, read_existing, update_manifest
from sfisep_core.errors import AudioFileError, ConfigError, DatasetError

_logger = logging.getLogger(__name__)

# Enough of every stem file to tell two recordings of one name and length apart.
_ORIGIN_BYTES = 2**20


@dataclass(frozen=True)
class PreparedDataset:
    """What `prepare_dataset` did: prepared tracks, and (name, reason) of those left out."""

    folder: Path
    tracks: list[PreparedTrack]
    skipped: list[tuple[str, str]]


@dataclass(frozen=True)
class PrepareProgress:
    """How far the preparation is: `track` is done, `done` of `total`."""

    track: str
    done: int
    total: int


def prepare_dataset(
    source: Path,
    out: Path,
    *,
    sample_rate: int | None = None,
    exclude: Sequence[str] = (),
    progress: Callable[[PrepareProgress], None] | None = None,
) -> PreparedDataset:
    """Prepare every track of a data set; repeated calls do only what is missing.

    Stems become 16-bit WAV files `<out>/<split>/<track>/<stem>.wav`. The mixture is their sum and
    is not stored. Tracks that are already in the manifest of `out`, from this source or another,
    stay; other exclusions, another rate or another split prepare a track anew.

    Args:
        source: Folder laid out as `find_tracks` knows it. Without tracks for validation, some of
            the training ones are held out, see `hold_out_tracks`.
        out: Folder to write.
        sample_rate: Rate to resample to in Hz, 4000 to 384000; None keeps each track's own.
        exclude: Time ranges `TRACK:START-END` in seconds to leave out; what is before and after
            becomes tracks of their own.
        progress: Called after every track.

    Returns:
        All tracks of the manifest, and those of `source` that were skipped, with the reason.

    Raises:
        ConfigError: A rate out of range, or an exclusion of another form.
        DatasetError: No tracks, an unreadable manifest, or an `out` that cannot be made.
    """
    if sample_rate is not None and not MIN_SAMPLE_RATE <= sample_rate <= MAX_SAMPLE_RATE:
        msg = (
            f"preparing {source}: expected a sample rate of {MIN_SAMPLE_RATE} to "
            f"{MAX_SAMPLE_RATE} Hz, got {sample_rate} Hz: choose another --sr"
        )
        raise ConfigError(msg)
    exclusions = parse_exclusions(exclude)
    folders = hold_out_tracks(find_tracks(source), cut={e.track for e in exclusions})
    unknown = {e.track for e in exclusions} - {folder.name for folder in folders}
    if unknown:
        msg = f"exclusion of {sorted(unknown)[0]!r}: no such track in {source}"
        raise DatasetError(msg)
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        msg = f"data set {out}: cannot be made: {error.strerror}; choose another --out"
        raise DatasetError(msg) from error
    read_existing(out)  # one that cannot be read stops here, before any work
    places = {(folder.split, folder.name) for folder in folders}
    skipped: list[tuple[str, str]] = []
    for done, folder in enumerate(folders, start=1):
        try:
            plan = _plan_track(
                folder, sample_rate, [e for e in exclusions if e.track == folder.name]
            )
            # Read for each track: another run may write to the same folder meanwhile.
            earlier = _earlier_parts(plan, read_existing(out), places)
            if not _is_done(plan, earlier, out):
                audio = _read_stems(plan)
                # While its files are replaced, a track is in no manifest: an interruption leaves
                # one that is to be prepared, not one of mixed rates.
                update_manifest(out, remove=earlier)
                update_manifest(out, add=_write_parts(plan, audio, out))
        except (AudioFileError, DatasetError, OSError) as error:
            skipped.append((f"{folder.split}/{folder.name}", str(error)))
        if progress is not None:
            progress(PrepareProgress(folder.name, done, len(folders)))
    return PreparedDataset(out, read_existing(out), skipped)


@dataclass(frozen=True)
class _Plan:
    """What is to be made of a track folder: `spans` are samples at `sample_rate`, by name."""

    folder: TrackFolder
    origin: str
    source_rate: int
    source_frames: int
    sample_rate: int
    channels: int
    spans: dict[str, tuple[int, int]]


def _plan_track(
    folder: TrackFolder, sample_rate: int | None, exclusions: Sequence[Exclusion]
) -> _Plan:
    if folder.missing:
        msg = f"expected stems {', '.join(STEMS)}; missing {', '.join(folder.missing)}"
        raise DatasetError(msg)
    infos = {stem: read_info(path) for stem, path in folder.stems.items()}
    shapes = {(info.sample_rate, info.channels, info.frames) for info in infos.values()}
    if len(shapes) > 1:
        found = "; ".join(
            f"{stem} {info.sample_rate} Hz, {info.channels} channels, {info.frames} frames"
            for stem, info in infos.items()
        )
        msg = f"expected stems of one rate, channel count and length, got {found}"
        raise DatasetError(msg)
    source_rate, channels, frames = shapes.pop()
    if frames == 0:
        msg = "expected music, got stems of 0 frames"
        raise DatasetError(msg)
    target_rate = sample_rate or source_rate
    length = resampled_length(frames, orig_rate=source_rate, target_rate=target_rate)
    spans = _kept_spans(length, target_rate, exclusions)
    named = {f"{folder.name}.{number}": span for number, span in enumerate(spans, start=1)}
    return _Plan(
        folder=folder,
        origin=_origin(folder),
        source_rate=source_rate,
        source_frames=frames,
        sample_rate=target_rate,
        channels=channels,
        spans=named if exclusions else {folder.name: spans[0]},
    )


def _kept_spans(
    frames: int, sample_rate: int, exclusions: Sequence[Exclusion]
) -> list[tuple[int, int]]:
    """Give what is left of 0..frames without the excluded ranges."""
    spans, begin = [], 0
    for exclusion in sorted(exclusions, key=lambda e: e.start):
        start = min(round(exclusion.start * sample_rate), frames)
        if start > begin:
            spans.append((begin, start))
        begin = max(begin, round(exclusion.end * sample_rate))
    if begin < frames:
        spans.append((begin, frames))
    return spans


def _origin(folder: TrackFolder) -> str:
    digest = hashlib.sha256(os.fsencode(folder.name))
    for stem in STEMS:
        path = folder.stems[stem]
        digest.update(f"{stem} {path.stat().st_size} ".encode())
        with path.open("rb") as file:
            digest.update(file.read(_ORIGIN_BYTES))
    return digest.hexdigest()


def _earlier_parts(
    plan: _Plan, tracks: Iterable[PreparedTrack], places: Set[tuple[str, str]]
) -> list[PreparedTrack]:
    """Give what was made of this folder before, and refuse to replace another's track.

    Where `places`, the (split, name) of all folders, show that the folder has changed its split,
    what was made of it for the other split counts: a track held out must not be trained on.
    """
    split, name = plan.folder.split, plan.folder.name
    earlier = []
    for track in tracks:
        if track.origin == plan.origin:
            if track.split == split or (track.split, name) not in places:
                earlier.append(track)
        elif track.split == split and track.name in plan.spans and track.origin != "":
            msg = (
                f"another recording named {track.name} has been prepared into this folder before: "
                "rename the track's folder, or prepare into another folder"
            )
            raise DatasetError(msg)
    return earlier


def _is_done(plan: _Plan, earlier: Sequence[PreparedTrack], out: Path) -> bool:
    split, rate = plan.folder.split, plan.sample_rate
    expected = {(split, name, rate, end - start) for name, (start, end) in plan.spans.items()}
    found = {(track.split, track.name, track.sample_rate, track.frames) for track in earlier}
    return found == expected and all(
        _holds(out / file, track) for track in earlier for file in track.stems.values()
    )


def _holds(path: Path, track: PreparedTrack) -> bool:
    try:
        info = read_info(path)
    except AudioFileError:
        return False
    return (info.sample_rate, info.channels, info.frames) == (
        track.sample_rate,
        track.channels,
        track.frames,
    )


def _read_stems(plan: _Plan) -> dict[str, npt.NDArray[np.float32]]:
    """Read the stems, each of shape (channel, time), at the rate of the plan."""
    audio = {}
    for stem, path in plan.folder.stems.items():
        samples, _ = read_audio(path)
        if samples.shape[1] != plan.source_frames:
            msg = (
                f"{path} is damaged: expected {plan.source_frames} frames, {samples.shape[1]} "
                "could be decoded; copy or download it again"
            )
            raise DatasetError(msg)
        audio[stem] = resample(samples, orig_rate=plan.source_rate, target_rate=plan.sample_rate)
    return audio


def _write_parts(
    plan: _Plan, audio: dict[str, npt.NDArray[np.float32]], out: Path
) -> list[PreparedTrack]:
    peaks: dict[str, float] = {}
    prepared = []
    for name, (first, last) in plan.spans.items():
        files, activity = {}, {}
        for stem in STEMS:
            relative = Path(plan.folder.split) / name / f"{stem}.wav"
            part = audio[stem][:, first:last]
            (out / relative).parent.mkdir(parents=True, exist_ok=True)
            write_audio(out / relative, part, sample_rate=plan.sample_rate, encoding="int16")
            files[stem] = relative.as_posix()
            activity[stem] = _rms_per_second(part, plan.sample_rate)
            peaks[stem] = max(peaks.get(stem, 0.0), float(np.abs(part).max()))
        prepared.append(
            PreparedTrack(
                name=name,
                split=plan.folder.split,
                sample_rate=plan.sample_rate,
                channels=plan.channels,
                frames=last - first,
                stems=files,
                activity=activity,
                origin=plan.origin,
            )
        )
    clipped = [f"{stem} (peak {peaks[stem]:.3f})" for stem in peaks if peaks[stem] > 1.0]
    if clipped:
        _logger.warning(
            "track %s exceeds full scale (1.0) and is clipped there: %s; lower the level of all "
            "its stems by the same factor and prepare it again if that matters",
            plan.folder.name,
            ", ".join(clipped),
        )
    return prepared


def _rms_per_second(audio: npt.NDArray[np.float32], sample_rate: int) -> list[float]:
    whole = audio.shape[1] // sample_rate
    seconds = audio[:, : whole * sample_rate].reshape(audio.shape[0], whole, sample_rate)
    power = np.square(seconds, dtype=np.float64).mean(axis=(0, 2))
    return [round(float(value), 6) for value in np.sqrt(power)]
