"""Prepare one track: read its sources, write its files, and add it to the manifest."""

import contextlib
import hashlib
import logging
import math
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt

from sfisep_core.audio.files import write_audio
from sfisep_core.audio.resample import resample
from sfisep_core.data.layouts import MIXTURE
from sfisep_core.data.manifest import PreparedTrack, read_existing, update_manifest
from sfisep_core.data.sources import (
    file_state,
    inspect,
    read_track,
    remember_source,
)
from sfisep_core.data.track_plan import (
    PreparationJob,
    TrackPlan,
    earlier_tracks,
    is_done,
    make_plan,
)
from sfisep_core.errors import AudioFileError, ConfigError, DatasetError
from sfisep_core.foundation.atomic import remove_left_overs
from sfisep_core.foundation.digests import file_sha256
from sfisep_core.foundation.locks import locked

_logger = logging.getLogger(__name__)

LOCKS_NAME = ".locks"
_BLOCK_FRAMES = 2**16


@dataclass(frozen=True)
class TrackOutcome:
    """Outcome of a track's preparation.

    Attributes:
        fault: Why it could not be prepared; empty on success.
        written: Whether files were written.
        mixture_error_db: Level of the difference between the given mixture and the sum of the
            stems, relative to the mixture; -inf without a mixture, or if nothing was read.
    """

    fault: str = ""
    written: bool = False
    mixture_error_db: float = -math.inf


def prepare_track(job: PreparationJob) -> TrackOutcome:
    """Prepare a track if necessary; a fault is part of the outcome."""
    try:
        return _prepare(job)
    except (AudioFileError, ConfigError, DatasetError, OSError) as error:
        return TrackOutcome(fault=str(error))


def is_prepared(job: PreparationJob, manifest: Sequence[PreparedTrack]) -> bool:
    """Tell, without reading the source files, whether a track is prepared already.

    Args:
        job: The track.
        manifest: Tracks of the manifest.
    """
    try:
        if job.known is None or job.known.state != file_state(job.track):
            return False
        plan = make_plan(job, job.known)
        return is_done(plan, earlier_tracks(plan, manifest))
    except (DatasetError, OSError):
        return False


def _prepare(job: PreparationJob) -> TrackOutcome:
    known = job.known
    if known is None or known.state != file_state(job.track):
        known = inspect(job.track)
    plan = make_plan(job, known)
    with _only_run(job.out, {job.track.name, *plan.spans}):
        # Read only now, because another run may have prepared the track in the meantime.
        earlier = earlier_tracks(plan, read_existing(job.out))
        if is_done(plan, earlier):
            remember_source(job.out, job.track, known)
            return TrackOutcome()
        audio = read_track(job.track, known)
        frames = audio[job.track.expected[0]].shape[1]
        if frames != known.frames:  # the length in a .stem.mp4's header is not exact
            known = replace(known, frames=frames)
            plan = make_plan(job, known)
        error_db = _mixture_error_db(audio)
        for role in set(audio) - set(plan.roles):
            del audio[role]
        for role in audio:
            if plan.source_rate != plan.sample_rate:
                audio[role] = resample(
                    audio[role], orig_rate=plan.source_rate, target_rate=plan.sample_rate
                )
        # A track is not in the manifest while its files are replaced, so that an interruption
        # cannot leave a track of mixed rates.
        _remove_files(plan, earlier)
        update_manifest(job.out, remove=earlier)
        remember_source(job.out, job.track, known)
        update_manifest(job.out, add=_write_parts(plan, audio))
    return TrackOutcome(written=True, mixture_error_db=error_db)


@contextlib.contextmanager
def _only_run(out: Path, names: set[str]) -> Iterator[None]:
    """Lock tracks of these names against other runs within the block."""
    folder = out / LOCKS_NAME
    folder.mkdir(exist_ok=True)
    digests = sorted(hashlib.sha256(os.fsencode(name)).hexdigest()[:16] for name in names)
    with contextlib.ExitStack() as stack:
        for digest in digests:  # in a fixed order, which avoids deadlocks
            stack.enter_context(locked(folder / f"{digest}.lock"))
        yield


def _mixture_error_db(audio: dict[str, npt.NDArray[np.float32]]) -> float:
    if MIXTURE not in audio:
        return -math.inf
    error = power = 0.0
    for start in range(0, audio[MIXTURE].shape[1], _BLOCK_FRAMES):
        block = slice(start, start + _BLOCK_FRAMES)
        difference = audio[MIXTURE][:, block].copy()
        power += float(np.vdot(difference, difference))
        for role, samples in audio.items():
            if role != MIXTURE:
                difference -= samples[:, block]
        error += float(np.vdot(difference, difference))
    if error == 0 or power == 0:
        return math.inf if error else -math.inf
    return 10 * math.log10(error / power)


def _remove_files(plan: TrackPlan, earlier: Sequence[PreparedTrack]) -> None:
    """Remove the files of earlier tracks that are not written again.

    This is done before they are removed from the manifest, so that an interruption leaves no
    orphaned files.
    """
    out = plan.job.out
    made = {plan.file(name, role) for name in plan.spans for role in plan.roles}
    for file in {file for track in earlier for file in track.files.values()} - made:
        path = out / file
        if path.resolve().is_relative_to(out.resolve()):  # the manifest may have been edited
            path.unlink(missing_ok=True)
            with contextlib.suppress(OSError):  # the folder is not empty
                path.parent.rmdir()


def _write_parts(plan: TrackPlan, audio: dict[str, npt.NDArray[np.float32]]) -> list[PreparedTrack]:
    job, stems = plan.job, plan.job.track.expected
    prepared = []
    for name, (first, last) in plan.spans.items():
        folder = job.out / job.track.split / name
        folder.mkdir(parents=True, exist_ok=True)
        remove_left_overs(folder, shared=False)
        sha256 = {}
        for role in plan.roles:
            path = job.out / plan.file(name, role)
            write_audio(
                path,
                audio[role][:, first:last],
                sample_rate=plan.sample_rate,
                encoding=job.encoding,
            )
            sha256[role] = file_sha256(path)
        prepared.append(
            PreparedTrack(
                name=name,
                split=job.track.split,
                sample_rate=plan.sample_rate,
                channels=plan.channels,
                frames=last - first,
                stems={stem: plan.file(name, stem) for stem in stems},
                activity={
                    stem: rms_per_second(audio[stem][:, first:last], plan.sample_rate)
                    for stem in stems
                },
                origin=plan.origin,
                mixture=plan.file(name, MIXTURE) if MIXTURE in plan.roles else None,
                encoding=job.encoding,
                sha256=sha256,
            )
        )
    if job.encoding != "float32":
        _warn_of_clipping(plan, audio)
    return prepared


def _warn_of_clipping(plan: TrackPlan, audio: dict[str, npt.NDArray[np.float32]]) -> None:
    peaks = dict.fromkeys(plan.roles, 0.0)
    for first, last in plan.spans.values():
        for role in plan.roles:
            part = audio[role][:, first:last]
            peaks[role] = max(peaks[role], float(part.max()), -float(part.min()))
    clipped = [f"{role} (peak {peak:.3f})" for role, peak in peaks.items() if peak > 1.0]
    if clipped:
        _logger.warning(
            "track %s exceeds full scale (1.0) and is clipped there: %s; prepare it with "
            "--encoding float32 if that matters",
            plan.job.track.name,
            ", ".join(clipped),
        )


def rms_per_second(audio: npt.NDArray[np.float32], sample_rate: int) -> list[float]:
    """Measure the activity of a stem: the RMS of every whole second, over all channels.

    Args:
        audio: Shape (channel, time), full scale at 1.0.
        sample_rate: Hz.

    Returns:
        One value for each second, rounded to six decimals.
    """
    values = []
    for start in range(0, audio.shape[1] - sample_rate + 1, sample_rate):
        second = audio[:, start : start + sample_rate].astype(np.float64)
        values.append(round(float(np.sqrt(np.square(second).mean())), 6))
    return values
