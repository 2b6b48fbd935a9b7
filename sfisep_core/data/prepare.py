"""Prepare a data set for training: stems of one format, and a manifest."""

import contextlib
import logging
import os
from collections.abc import Callable, Mapping, Sequence, Set
from contextlib import closing
from dataclasses import replace
from pathlib import Path

from sfisep_core.data.exclusions import Exclusion, parse_exclusions
from sfisep_core.data.layouts import SPLITS, Layout, SourceTrack, find_tracks, parse_stem_map
from sfisep_core.data.manifest import (
    MANIFEST_NAME,
    finish_manifest,
    read_existing,
)
from sfisep_core.data.musdb18 import check_ffmpeg
from sfisep_core.data.preparation import PreparationRequest, PreparedDataset, PrepareProgress
from sfisep_core.data.sources import SOURCES_NAME, finish_sources, read_sources, source_key
from sfisep_core.data.splits import hold_out_tracks, split_as_musdb18
from sfisep_core.data.track_plan import PreparationJob
from sfisep_core.data.track_preparation import LOCKS_NAME, is_prepared, prepare_track
from sfisep_core.errors import ConfigError, DatasetError
from sfisep_core.foundation.jobs import run_jobs

_logger = logging.getLogger(__name__)

# A difference between the given mixture and the sum of the stems is audible above this level.
_AUDIBLE_DB = -40.0


def prepare_dataset(
    request: PreparationRequest, *, progress: Callable[[PrepareProgress], None] | None = None
) -> PreparedDataset:
    """Prepare every track of a data set; repeated calls prepare only what is missing.

    Stems become files `<out>/<split>/<track>/<stem>.wav`. Training sums them; a given mixture is
    kept for the other splits. Tracks that are already in the manifest of `out`, from this source or
    another, are kept; changed settings, splits or files cause a track to be prepared again. All
    shards together, in parallel or not, give the result of a single call.

    Args:
        request: What to prepare, and how.
        progress: Called after every track.

    Returns:
        All tracks of the manifest, and the skipped tracks of the source, with the reasons.

    Raises:
        ConfigError: A setting is out of range or has another form.
        DatasetError: There are no tracks, the manifest is unreadable, `out` cannot be created, or
            ffmpeg is missing for MUSDB18's `.stem.mp4`; or, if `strict`, a track cannot be
            prepared.
        DeviceError: There is no Ray cluster.
        WorkerError: A process was killed; finished tracks are kept.
    """
    source, out, strict = request.source, request.out, request.strict
    exclusions = parse_exclusions(request.exclude)
    all_tracks = _find(source, request.layout, request.stem_map, exclusions)
    _check_places(all_tracks, out)
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        msg = f"data set {out}: cannot be made: {error.strerror}; choose another folder"
        raise DatasetError(msg) from error
    manifest, sources = read_existing(out), read_sources(out)
    _warn_of_gone(source, out, {source_key(track) for track in all_tracks}, sources)
    own = request.share(all_tracks)
    splits: dict[str, set[str]] = {}
    for track in all_tracks:
        splits.setdefault(track.name, set()).add(track.split)
    faults = {track.path: track.fault for track in own if track.fault}
    _refuse_faults(strict, own, faults)
    work = [
        PreparationJob(
            track=track,
            out=out,
            sample_rate=request.sample_rate,
            container=request.container,
            encoding=request.encoding,
            exclusions=tuple(e for e in exclusions if e.track == track.name),
            splits=frozenset(splits[track.name]),
            known=sources.get(source_key(track)),
            verify=request.verify,
        )
        for track in own
        if not track.fault
    ]
    missing = [job for job in work if request.verify or not is_prepared(job, manifest)]
    done = len(own) - len(missing)
    if progress is not None and own:
        progress(PrepareProgress("", done, len(own)))
    written = 0
    levels: dict[str, float] = {}
    try:
        with closing(run_jobs(prepare_track, missing, request)) as results:
            for job, outcome in results:
                written += outcome.written
                if outcome.fault:
                    faults[job.track.path] = outcome.fault
                    _refuse_faults(strict, own, faults)
                if outcome.mixture_error_db > _AUDIBLE_DB:
                    levels[_name(job.track)] = outcome.mixture_error_db
                done += 1
                if progress is not None:
                    progress(PrepareProgress(job.track.name, done, len(own)))
    finally:  # record finished tracks, however the work ends
        _finish(out)
    if levels:
        _warn_of_mixtures(levels)
    tracks = read_existing(out)
    if request.shard is None and tracks and not any(track.split == "valid" for track in tracks):
        _logger.warning("%s: no track is left to validate on, which training needs", out)
    return PreparedDataset(
        folder=out,
        tracks=tracks,
        skipped=[(_name(track), faults[track.path]) for track in own if track.path in faults],
        written=written,
    )


def _check_places(tracks: Sequence[SourceTrack], out: Path) -> None:
    """Check that no source file would be overwritten."""
    # os.path returns False where pathlib raises: a name too long.
    places = [os.path.join(os.path.realpath(out), split, "") for split in SPLITS]
    inside = [t for t in tracks if os.path.realpath(t.path).startswith(tuple(places))]
    if inside:
        msg = (
            f"preparing {inside[0].path}: a data set in {out} would be written over the source "
            "files: choose another folder"
        )
        raise ConfigError(msg)
    there = set(os.listdir(out)) if os.path.isdir(out) else set()
    foreign = [name for name in sorted(there) if not name.startswith(".")]
    temporary = f".{Path(MANIFEST_NAME).stem}."
    marks = (MANIFEST_NAME, temporary, SOURCES_NAME, LOCKS_NAME)
    if foreign and not any(name.startswith(marks) for name in there):
        msg = (
            f"data set {out}: expected an empty folder or a prepared data set, found "
            f"{foreign[0]!r}: choose another folder"
        )
        raise DatasetError(msg)


def _warn_of_gone(
    source: Path, out: Path, present: Set[str], sources: Mapping[str, object]
) -> None:
    """Warn of tracks that were prepared from this source and no longer exist in it."""
    root = source.resolve()
    gone = sorted(
        Path(key).name for key in sources.keys() - present if Path(key).is_relative_to(root)
    )
    if gone:
        _logger.warning(
            "%s: no longer there, or renamed: %s; what was prepared of them stays in %s. Prepare "
            "into another folder to leave it out",
            source,
            ", ".join(gone),
            out,
        )


def _find(
    source: Path, layout: Layout, stem_map: Sequence[str], exclusions: Sequence[Exclusion]
) -> list[SourceTrack]:
    """Find the tracks of all shards, in their order, with their final splits."""
    tracks, layout = find_tracks(source, layout=layout, stem_map=parse_stem_map(stem_map))
    _logger.info("%s: %d tracks, layout %s", source, len(tracks), layout)
    if layout == "musdb18":
        check_ffmpeg()
    if layout in ("musdb18", "musdb18-hq"):
        tracks = split_as_musdb18(tracks)
    tracks = hold_out_tracks(tracks, cut={e.track for e in exclusions})
    unknown = {e.track for e in exclusions} - {track.name for track in tracks}
    if unknown:
        msg = (
            f"exclusion of {sorted(unknown)[0]!r}: no such track in {source}: write its name as "
            "that of its folder or file is"
        )
        raise DatasetError(msg)
    return _mark_doubles(tracks, exclusions)


def _mark_doubles(
    tracks: Sequence[SourceTrack], exclusions: Sequence[Exclusion]
) -> list[SourceTrack]:
    """Mark the later of two tracks with the same prepared name as faulty."""
    taken: dict[tuple[str, str], Path] = {}
    marked = []
    for track in tracks:
        cuts = sum(e.track == track.name for e in exclusions)
        parts = [f"{track.name}.{number}" for number in range(1, cuts + 2)]
        names = [(track.split, name) for name in (parts if cuts else [track.name])]
        other = next((taken[name] for name in names if name in taken), None)
        if other is not None:
            problem = f"expected names of their own, {other} gets the same: rename one of them"
            marked.append(replace(track, problem=problem))
        else:
            taken.update(dict.fromkeys(names, track.path))
            marked.append(track)
    return marked


def _finish(out: Path) -> None:
    """Write the manifest and the record of sources, which have journals during the work."""
    finish_manifest(out)
    with contextlib.suppress(OSError):  # the record of sources is only a cache
        finish_sources(out)


def _name(track: SourceTrack) -> str:
    return f"{track.split}/{track.name}"


def _refuse_faults(strict: bool, tracks: Sequence[SourceTrack], faults: Mapping[Path, str]) -> None:
    if strict and faults:
        track = next(track for track in tracks if track.path in faults)
        msg = f"{_name(track)}: {faults[track.path]}; nothing further is prepared, as --strict asks"
        raise DatasetError(msg)


def _warn_of_mixtures(levels: Mapping[str, float]) -> None:
    worst = max(levels, key=lambda name: levels[name])
    _logger.warning(
        "the given mixture is not the sum of the stems in %d tracks: what they differ by is up to "
        "%.1f dB relative to the mixture (%s); training uses the sum, evaluation the given mixture",
        len(levels),
        levels[worst],
        worst,
    )
