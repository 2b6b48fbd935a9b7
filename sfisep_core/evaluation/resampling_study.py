"""Compare methods for many sampling frequencies: one loop over methods, rates and tracks."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from sfisep_core.data.manifest import PreparedTrack
from sfisep_core.errors import ConfigError, DatasetError
from sfisep_core.evaluation.examples import Excerpt, make_examples, plan_excerpts
from sfisep_core.evaluation.plan import (
    check_kinds,
    check_rates,
    plan_systems,
    scored_sources,
)
from sfisep_core.evaluation.requests import (
    Plan,
    ScoringRequest,
    ScoringResult,
    carry_out,
    open_tracks,
    plan_run,
)
from sfisep_core.evaluation.scoring import Progress
from sfisep_core.evaluation.study import Example, Study
from sfisep_core.evaluation.systems import System, load
from sfisep_core.evaluation.tables import Comparison
from sfisep_core.evaluation.track_scores import TrackScores
from sfisep_core.pretrained.identity import ModelIdentity, identify_model

SAMPLE_RATES = (
    *(8000, 11025, 12000, 16000, 20000, 22050, 24000, 28000),
    *(32000, 36000, 40000, 44100, 48000),
)
"""Hz: the default rates of a comparison."""

DEFAULT_METHODS = ("native", "resample", "soxr", "noisy-kernel", "post-noise", "direct")

REPORT_NAME = "report.html"


@dataclass(frozen=True, kw_only=True)
class ResamplingRequest(ScoringRequest):
    """Request of `compare_resampling`; see `ScoringRequest` for the other attributes.

    Attributes:
        model: Name, file or address of the model.
        methods: Methods to compare, the first with each of the others, see `systems.BASELINES`.
        sample_rates: Rates in Hz to compare at; none = those of `SAMPLE_RATES` that the tracks are
            stored at or above.
        report: Whether to write OUT/report.html, which needs matplotlib.
        examples: Excerpts to listen to in the report, "TRACK" or "TRACK:START-END" in seconds;
            none = six seconds of one track.
        example_rates: Rates in Hz to listen at; none = the lowest.
    """

    out: Path = Path("resampling-study")
    model: str = "default"
    methods: tuple[str, ...] = DEFAULT_METHODS
    sample_rates: tuple[int, ...] = ()
    report: bool = True
    examples: tuple[str, ...] = ()
    example_rates: tuple[int, ...] = ()


def compare_resampling(
    request: ResamplingRequest, *, progress: Progress | None = None
) -> ScoringResult:
    """Score methods of running one model at several sampling frequencies, and write a report.

    Scores are stored in OUT like those of `evaluate`; a second call computes only what is missing.

    Args:
        request: The request.
        progress: Called with (done, total, label of the track).

    Returns:
        All scores and tables. Failures do not stop the rest. There is no report if nothing could be
        scored, or for a shard while scores are missing.

    Raises:
        CheckpointError: The model is missing or cannot be read.
        ConfigError: A method, rate, example, device or combination of options is invalid, or
            matplotlib is missing.
        DatasetError: The data set, its split or a track is missing, or tables or report cannot be
            written.
    """
    check_kinds(request.methods)
    if request.report:
        _check_matplotlib()
    dataset, tracks = open_tracks(request)
    sample_rates = _choose_rates(request, tracks)
    example_rates = _choose_example_rates(request, sample_rates)
    excerpts = plan_excerpts(tracks, request.examples)
    model = identify_model(request.model)
    systems = plan_systems(
        model,
        request.methods,
        stems=dataset.stems,
        segment=request.segment,
        options=request.method_options,
    )
    plan = plan_run(
        request,
        dataset,
        tracks,
        model=model,
        systems=systems,
        sample_rates=sample_rates,
        folder=request.out,
        equivariance=True,
    )
    path = request.out / REPORT_NAME
    result = carry_out(plan, progress)
    if result.scores:
        _remove(path)  # an earlier report does not match the new tables
    if not request.report or not result.scores or result.comparison is None:
        return result
    _write_report(plan, model, result.scores, result.comparison, excerpts, example_rates, path)
    return replace(result, report=path)


def make_study(
    model: ModelIdentity,
    comparison: Comparison,
    *,
    data: str,
    systems: Sequence[System],
    sample_rates: Sequence[int],
    tracks: Sequence[PreparedTrack],
    examples: Sequence[Example],
) -> Study:
    """Build the content of the report."""
    return Study(
        model=model.label,
        model_sha256=model.sha256,
        native_rate=model.native_rate,
        data=data,
        systems=[system.name for system in systems],
        sample_rates=sorted(sample_rates),
        sources=scored_sources(model, tuple(tracks[0].stems)),
        tracks=[track.name for track in tracks],
        scores=comparison.scores,
        summaries=comparison.summaries,
        differences=comparison.differences,
        examples=examples,
    )


def _choose_rates(request: ResamplingRequest, tracks: Sequence[PreparedTrack]) -> list[int]:
    lowest_stored = min(track.sample_rate for track in tracks)
    usual = [rate for rate in SAMPLE_RATES if rate <= lowest_stored]
    sample_rates = sorted(set(request.sample_rates or usual))
    check_rates(tracks, sample_rates, allow_upsampled=request.allow_upsampled)
    return sample_rates


def _choose_example_rates(request: ResamplingRequest, sample_rates: Sequence[int]) -> list[int]:
    example_rates = sorted(set(request.example_rates or sample_rates[:1]))
    if not set(example_rates) <= set(sample_rates):
        msg = f"--example-sr: expected one of {', '.join(map(str, sample_rates))}"
        raise ConfigError(msg)
    return example_rates


def _check_matplotlib() -> None:
    from sfisep_core.evaluation.report import check_available

    check_available()


def _write_report(
    plan: Plan,
    model: ModelIdentity,
    scores: Sequence[TrackScores],
    comparison: Comparison,
    excerpts: Sequence[Excerpt],
    example_rates: Sequence[int],
    path: Path,
) -> None:
    from sfisep_core.evaluation.report import write_report

    names = {score.track for score in scores}
    scored = [track for track in plan.tracks if track.name in names]
    study = make_study(
        model,
        comparison,
        data=f"{len(scored)} of {len(plan.tracks)} tracks of the split {plan.request.split!r} of "
        f"{plan.dataset.folder.name}",
        systems=plan.systems,
        sample_rates=plan.sample_rates,
        tracks=scored,
        examples=make_examples(
            plan.dataset,
            excerpts,
            systems=plan.systems,
            sources=plan.sources,
            sample_rates=example_rates,
            device=plan.device,
            allow_upsampled=plan.request.allow_upsampled,
        ),
    )
    try:
        write_report(study, path, model=load(model, plan.device))
    except OSError as error:
        msg = f"report {path}: cannot be written: {error.strerror}; choose another folder"
        raise DatasetError(msg) from error


def _remove(path: Path) -> None:
    try:
        path.unlink(missing_ok=True)
    except OSError as error:
        msg = f"report {path}: cannot be replaced: {error.strerror}; choose another folder"
        raise DatasetError(msg) from error
