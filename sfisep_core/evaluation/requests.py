"""Requests and results of `evaluate` and `compare_resampling`."""

import logging
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any, Literal

from sfisep_core.data.datasets import EmptySplitError, StemDataset
from sfisep_core.data.manifest import PreparedTrack
from sfisep_core.data.remembered import find_dataset
from sfisep_core.devices import find_device
from sfisep_core.errors import DatasetError
from sfisep_core.evaluation.plan import scored_sources, select_tracks
from sfisep_core.evaluation.scoring import Evaluation, Progress, score_systems
from sfisep_core.evaluation.scoring_jobs import Failure, ScoringSettings
from sfisep_core.evaluation.systems import System
from sfisep_core.evaluation.tables import (
    Comparison,
    compare_systems,
    make_tables,
    to_json,
    write_tables,
)
from sfisep_core.evaluation.track_scores import MetricSet, TrackScores
from sfisep_core.foundation.jobs import Execution
from sfisep_core.pretrained.identity import ModelIdentity
from sfisep_core.separation.settings import DEFAULT_OPTIONS, MethodOptions

_logger = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class ScoringRequest(Execution):
    """Common part of requests to score; see `Execution` for jobs, engine and shard.

    A job is one track at one sampling frequency. A shard writes its scores to the folder `out`; the
    tables are written by the call that finds all scores there.

    Attributes:
        data: Folder of a prepared data set; None = the one prepared last.
        split: Name of the split.
        tracks: Names of the tracks, with `*` and `?`; none = all of the split.
        out: Folder for scores and tables; created if missing.
        segment: Seconds that a model separates at once, see `SeparationSettings`.
        method_options: Options of individual methods.
        metrics: "all"; "sdr": without ISR, SIR and SAR, which take most of the time; "museval":
            SDR, ISR, SIR and SAR by the package museval.
        allow_upsampled: Whether tracks and estimates may be stored at a lower rate than that of
            scoring.
        device: "auto", "cpu", "cuda" or "cuda:N".
    """

    data: Path | None = None
    split: Literal["train", "valid", "test"] = "test"
    tracks: tuple[str, ...] = ()
    out: Path
    segment: float | None = None
    method_options: MethodOptions = DEFAULT_OPTIONS
    metrics: MetricSet = "all"
    allow_upsampled: bool = False
    device: str = "auto"


@dataclass(frozen=True)
class ScoringResult:
    """Result of a run that scores.

    Attributes:
        systems: The scored systems; the first is compared with the others.
        sources: Names of the stems that were scored, in order.
        scores: Scores of every track, in the order of rates, systems and tracks; old and new ones.
        failures: What could not be scored, and why.
        computed: Number of new scores.
        missing: Number of missing scores: failures, and those that other shards have not computed.
        comparison: Summaries over tracks, and the first system compared with the others; None for a
            shard while scores are missing.
        tables: Content of summary.json: "scores" and "differences" are lists of rows. For a shard
            while scores are missing: "shard", "scores" (their number) and "missing".
        out: Folder of all scores.
        folder: Folder of the tables.
        report: The report's file; None if none was written.
    """

    systems: Sequence[System]
    sources: tuple[str, ...]
    scores: list[TrackScores]
    failures: list[Failure]
    computed: int
    missing: int
    comparison: Comparison | None
    tables: dict[str, Any]
    out: Path
    folder: Path
    report: Path | None = None

    def to_json(self) -> str:
        """Write the tables as strict JSON: numbers that are NaN or infinite become null."""
        return to_json(self.tables)


@dataclass(frozen=True)
class Plan:
    """A request whose inputs were all resolved and checked.

    Attributes:
        request: The request.
        dataset: The split, of whole tracks.
        tracks: The tracks to score.
        model: Model of the methods; None if there are none.
        systems: What to score.
        sources: Names of the stems that are scored, in order.
        sample_rates: Hz.
        settings: How to score, as requested.
        device: Device of the computation: "cpu" or "cuda:N".
        folder: Folder of the tables.
    """

    request: ScoringRequest
    dataset: StemDataset
    tracks: Sequence[PreparedTrack]
    model: ModelIdentity | None
    systems: Sequence[System]
    sources: tuple[str, ...]
    sample_rates: Sequence[int]
    settings: ScoringSettings
    device: str
    folder: Path


def open_tracks(request: ScoringRequest) -> tuple[StemDataset, list[PreparedTrack]]:
    """Open the data set of a request, and select its tracks.

    Raises:
        DatasetError: There is no such data set, split or track.
    """
    folder = find_dataset(request.data)
    if request.data is None:
        _logger.info("data set: %s", folder)
    try:
        dataset = StemDataset(folder, split=request.split, excerpt_seconds=None)
    except EmptySplitError as error:
        if not error.others:
            raise
        msg = f"{error}, or score others with --split {error.others[0]}"
        raise DatasetError(msg) from error
    return dataset, select_tracks(dataset, request.tracks)


def plan_run(
    request: ScoringRequest,
    dataset: StemDataset,
    tracks: Sequence[PreparedTrack],
    *,
    model: ModelIdentity | None,
    systems: Sequence[System],
    sample_rates: Sequence[int],
    folder: Path,
    save_estimates: bool = False,
    equivariance: bool = False,
) -> Plan:
    """Build the plan of a run; see `Plan` and `ScoringSettings`.

    Raises:
        ConfigError: The device is not available, or the model's sources do not match the stems.
    """
    settings = ScoringSettings(
        metrics=request.metrics,
        allow_upsampled=request.allow_upsampled,
        save_estimates=save_estimates,
        equivariance=equivariance,
        device=request.device,
    )
    return Plan(
        request,
        dataset,
        tracks,
        model,
        systems,
        scored_sources(model, dataset.stems),
        sample_rates,
        settings,
        str(find_device(request.device)),
        folder,
    )


def carry_out(plan: Plan, progress: Progress | None) -> ScoringResult:
    """Compute missing scores, and write the tables.

    Args:
        plan: The plan.
        progress: Called with (done, total, label of the track).

    Returns:
        All scores and tables. Failures do not stop the rest.

    Raises:
        CheckpointError: A model cannot be loaded.
        DatasetError: The tables cannot be written.
        DeviceError: There is no Ray cluster.
        WorkerError: A process was killed.
    """
    evaluation = score_systems(
        plan.dataset,
        plan.tracks,
        systems=plan.systems,
        sample_rates=plan.sample_rates,
        sources=plan.sources,
        out=plan.request.out,
        settings=replace(plan.settings, device=plan.device),
        execution=plan.request,
        progress=progress,
    )
    if plan.request.shard is not None and evaluation.missing:
        comparison, tables = (
            None,
            {
                "shard": plan.request.shard,
                "scores": len(evaluation.scores),
                "missing": evaluation.missing,
            },
        )
    else:
        comparison, tables = _gather(plan, evaluation)
    return ScoringResult(
        systems=plan.systems,
        sources=plan.sources,
        scores=evaluation.scores,
        failures=evaluation.failures,
        computed=evaluation.computed,
        missing=evaluation.missing,
        comparison=comparison,
        tables=tables,
        out=plan.request.out,
        folder=plan.folder,
    )


def _gather(plan: Plan, evaluation: Evaluation) -> tuple[Comparison, dict[str, Any]]:
    """Summarise all scores, and write the tables; without any scores earlier tables stay."""
    names = [system.name for system in plan.systems]
    comparison = compare_systems(evaluation.scores, names)
    tables = make_tables(evaluation, comparison, names, _describe(plan))
    if not evaluation.scores:
        return comparison, tables
    try:
        plan.folder.mkdir(parents=True, exist_ok=True)
        write_tables(plan.folder, tables, comparison.scores)
    except OSError as error:
        msg = f"tables in {plan.folder}: cannot be written: {error.strerror}; choose another folder"
        raise DatasetError(msg) from error
    return comparison, tables


def _describe(plan: Plan) -> dict[str, Any]:
    """Describe the run, for users who want to repeat it."""
    request, model = plan.request, plan.model
    return {
        "sfisep": version("sfisep"),
        "data": str(plan.dataset.folder),
        "split": request.split,
        "tracks": [track.name for track in plan.tracks],
        "model": None if model is None else {"name": model.shown, "sha256": model.sha256},
        "segment": request.segment,
        "method_options": asdict(request.method_options),
        "settings": asdict(plan.settings),
    }
