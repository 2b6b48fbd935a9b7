"""Score systems on the tracks of a data set, at any sampling frequency, and store the scores.

The scores of a track are a file of their own, written as soon as they are known. A call computes
only what is missing: a stored file is used if it can be read and was computed with the same
settings from the same audio and weights.
"""

from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path

from sfisep_core.data.datasets import StemDataset
from sfisep_core.data.manifest import PreparedTrack
from sfisep_core.devices import find_device, threads_of_worker, worker_device
from sfisep_core.evaluation.scoring_jobs import (
    Failure,
    ScoringJob,
    ScoringSettings,
    run_scoring_job,
)
from sfisep_core.evaluation.systems import System, check_systems
from sfisep_core.evaluation.track_scores import TrackScores
from sfisep_core.foundation.jobs import Execution, run_jobs

Progress = Callable[[int, int, str], None]

IN_THIS_PROCESS = Execution()


@dataclass(frozen=True)
class Evaluation:
    """Result of `score_systems`.

    Attributes:
        scores: All scores, old and new, in the order of rates, systems and tracks.
        failures: What could not be scored.
        computed: Number of new scores.
        missing: Number of missing scores: failures, and those that other shards have not computed.
    """

    scores: list[TrackScores]
    failures: list[Failure]
    computed: int
    missing: int = 0


def score_systems(
    dataset: StemDataset,
    tracks: Sequence[PreparedTrack],
    *,
    systems: Sequence[System],
    sample_rates: Sequence[int],
    sources: tuple[str, ...],
    out: Path,
    settings: ScoringSettings,
    execution: Execution = IN_THIS_PROCESS,
    progress: Progress | None = None,
) -> Evaluation:
    """Score systems on tracks at rates.

    Scores are in OUT/RATE/SYSTEM/SPLIT/TRACK.json.

    Args:
        dataset: The split, of whole tracks.
        tracks: The tracks to score.
        systems: What to score.
        sample_rates: Hz.
        sources: Names of the sources, in order.
        out: Folder of the scores; created if missing.
        settings: How to score.
        execution: Where jobs are scored, and which ones; workers share the processor's cores.
        progress: Called with (done, total, label of the track).

    Returns:
        The scores. Failures do not stop the rest.

    Raises:
        CheckpointError: A model cannot be loaded.
        ConfigError: The device is not available, or a network does not match its model.
        DeviceError: There is no Ray cluster.
        WorkerError: A process was killed.
    """
    settings = replace(settings, device=str(find_device(settings.device)))
    jobs = [
        ScoringJob(dataset, track, rate, sources, tuple(systems), settings, out)
        for number, track in enumerate(tracks)
        for rate in _rotated(sample_rates, number)
    ]
    missing = [(job, job.missing()) for job in execution.share(jobs)]
    unfinished = [job for job, systems_left in missing if systems_left]
    workers = execution.workers(len(unfinished))
    needed = dict.fromkeys(system for _, systems_left in missing for system in systems_left)
    # This loads the models in this process; other processes load them themselves.
    check_systems(needed, settings.device if workers == 0 else "cpu")
    if workers:
        threads = threads_of_worker(workers)
        theirs = replace(settings, device=worker_device(settings.device, execution))
        unfinished = [replace(job, threads=threads, settings=theirs) for job in unfinished]
    failures: list[Failure] = []
    computed = 0
    on_gpu = settings.device.startswith("cuda")
    with closing(run_jobs(run_scoring_job, unfinished, execution, on_gpu=on_gpu)) as work:
        for done, (job, (written, failed)) in enumerate(work, start=1):
            computed += written
            failures += failed
            if progress is not None:
                progress(done, len(unfinished), f"{job.track.name} at {job.sample_rate} Hz")
    scores = [
        finished
        for rate in sample_rates
        for system in systems
        for job in jobs
        if job.sample_rate == rate and (finished := job.finished(system)) is not None
    ]
    names = [track.name for track in tracks]
    failures.sort(key=lambda f: (sample_rates.index(f.sample_rate), names.index(f.track)))
    return Evaluation(scores, failures, computed, len(jobs) * len(systems) - len(scores))


def _rotated(sample_rates: Sequence[int], number: int) -> list[int]:
    """Rotate the rates for every track, so that each shard has tracks at low and high rates."""
    first = number % len(sample_rates)
    return [*sample_rates[first:], *sample_rates[:first]]
