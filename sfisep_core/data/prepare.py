"""Prepare a data set for training: stems of one rate and one format, and a manifest."""

import hashlib
import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from sfisep_core.audio.files import read_audio, read_info, write_audio
from sfisep_core.audio.resample import resample, resampled_length
from sfisep_core.data.layouts import STEMS, Exclusion, TrackFolder, find_tracks, parse_exclusions
from sfisep_core.errors import AudioFileError, DatasetError

MANIFEST_NAME = "manifest.json"
MANIFEST_VERSION = 1

# Enough of every stem file to tell two recordings of one name and length apart.
_ORIGIN_BYTES = 2**20


@dataclass(frozen=True)
class PreparedTrack:
    """One track of a prepared data set.

    Attributes:
        name: Name of the track; parts around an excluded range end in `.1`, `.2`, ...
        split: "train", "valid" or "test".
        sample_rate: Hz.
        channels: Channels of every stem.
        frames: Samples of every stem.
        stems: File of each stem, relative to the data set's folder.
        activity: Per stem the RMS of every whole second.
        origin: Digest of the track folder it was made from; parts of one track share it.
    """

    name: str
    split: str
    sample_rate: int
    channels: int
    frames: int
    stems: dict[str, str]
    activity: dict[str, list[float]]
    origin: str = ""


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
    stay; other exclusions or another rate prepare a track anew.

    Args:
        source: Folder laid out as `find_tracks` knows it.
        out: Folder to write.
        sample_rate: Rate to resample to in Hz; None keeps each track's own.
        exclude: Time ranges `TRACK:START-END` in seconds to leave out; what is before and after
            becomes tracks of their own.
        progress: Called after every track.

    Returns:
        All tracks of the manifest, and those of `source` that were skipped, with the reason.

    Raises:
        DatasetError: No tracks, or an unreadable manifest.
    """
    folders = find_tracks(source)
    exclusions = parse_exclusions(exclude)
    unknown = {e.track for e in exclusions} - {folder.name for folder in folders}
    if unknown:
        msg = f"exclusion of {sorted(unknown)[0]!r}: no such track in {source}"
        raise DatasetError(msg)
    tracks = {_key(track): track for track in _read_existing(out)}
    skipped: list[tuple[str, str]] = []
    for done, folder in enumerate(folders, start=1):
        try:
            plan = _plan_track(
                folder, sample_rate, [e for e in exclusions if e.track == folder.name]
            )
            earlier = _earlier_parts(plan, tracks)
            if not _is_done(plan, earlier, out):
                prepared = _prepare_track(plan, out)
                for track in earlier:
                    del tracks[_key(track)]
                tracks.update({_key(track): track for track in prepared})
                _write_manifest(out, tracks.values())
        except (AudioFileError, DatasetError, OSError) as error:
            skipped.append((f"{folder.split}/{folder.name}", str(error)))
        if progress is not None:
            progress(PrepareProgress(folder.name, done, len(folders)))
    return PreparedDataset(out, list(tracks.values()), skipped)


def read_manifest(folder: Path) -> list[PreparedTrack]:
    """Read the manifest of a prepared data set.

    Raises:
        DatasetError: There is none, or it cannot be read.
    """
    path = folder / MANIFEST_NAME
    if not path.is_file():
        msg = (
            f"data set {folder}: expected {MANIFEST_NAME}, found none: prepare the data first, "
            f"`sfisep prepare-data SOURCE --out {folder}`"
        )
        raise DatasetError(msg)
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        if content["version"] != MANIFEST_VERSION:
            msg = (
                f"{path}: expected version {MANIFEST_VERSION}, got {content['version']}: "
                "prepare the data again"
            )
            raise DatasetError(msg)
        return [PreparedTrack(**track) for track in content["tracks"]]
    except (KeyError, TypeError, ValueError) as error:
        msg = f"{path}: not a manifest of a prepared data set ({error!r}): prepare the data again"
        raise DatasetError(msg) from error


def _key(track: PreparedTrack) -> tuple[str, str]:
    return track.split, track.name


def _read_existing(out: Path) -> list[PreparedTrack]:
    return read_manifest(out) if (out / MANIFEST_NAME).exists() else []


def _write_manifest(out: Path, tracks: Iterable[PreparedTrack]) -> None:
    content = {"version": MANIFEST_VERSION, "tracks": [asdict(track) for track in tracks]}
    temporary = out / f".{MANIFEST_NAME}.part"
    temporary.write_text(json.dumps(content, indent=1), encoding="utf-8")
    temporary.replace(out / MANIFEST_NAME)


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
    digest = hashlib.sha256(folder.name.encode())
    for stem in STEMS:
        path = folder.stems[stem]
        digest.update(f"{stem} {path.stat().st_size} ".encode())
        with path.open("rb") as file:
            digest.update(file.read(_ORIGIN_BYTES))
    return digest.hexdigest()


def _earlier_parts(
    plan: _Plan, tracks: dict[tuple[str, str], PreparedTrack]
) -> list[PreparedTrack]:
    """Give what was made of this folder before, and refuse to replace another's track."""
    split = plan.folder.split
    for name in plan.spans:
        other = tracks.get((split, name))
        if other is not None and other.origin not in ("", plan.origin):
            msg = (
                f"another recording named {name} has been prepared into this folder before: "
                "rename the track's folder, or prepare into another folder"
            )
            raise DatasetError(msg)
    return [t for t in tracks.values() if t.split == split and t.origin == plan.origin]


def _is_done(plan: _Plan, earlier: Sequence[PreparedTrack], out: Path) -> bool:
    expected = {(name, plan.sample_rate, end - start) for name, (start, end) in plan.spans.items()}
    found = {(track.name, track.sample_rate, track.frames) for track in earlier}
    return found == expected and all(
        (out / file).is_file() for track in earlier for file in track.stems.values()
    )


def _prepare_track(plan: _Plan, out: Path) -> list[PreparedTrack]:
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
    return prepared


def _rms_per_second(audio: npt.NDArray[np.float32], sample_rate: int) -> list[float]:
    whole = audio.shape[1] // sample_rate
    seconds = audio[:, : whole * sample_rate].reshape(audio.shape[0], whole, sample_rate)
    power = np.square(seconds, dtype=np.float64).mean(axis=(0, 2))
    return [round(float(value), 6) for value in np.sqrt(power)]
