"""Score a model, baselines and other separators on the tracks of a data set, at any rate."""

from dataclasses import dataclass
from pathlib import Path

from sfisep_core.evaluation.plan import check_kinds, check_rates, plan_systems, stored_rate
from sfisep_core.evaluation.requests import (
    ScoringRequest,
    ScoringResult,
    carry_out,
    open_tracks,
    plan_run,
)
from sfisep_core.evaluation.scoring import Progress
from sfisep_core.pretrained.identity import identify_model

DEFAULT_MODEL = "default"


@dataclass(frozen=True, kw_only=True)
class EvaluationRequest(ScoringRequest):
    """Request of `evaluate`; see `ScoringRequest` for the other attributes.

    Attributes:
        model: Name, file or address of the model; None = the default model, or no model with
            `estimates`.
        native: Whether to score the model at the tracks' own rate.
        baselines: Other methods of the model, "mixture" and "oracle-irm", see `systems.BASELINES`.
        estimates: Folders with stems of any separator: FOLDER/TRACK/STEM.wav.
        sample_rate: Rate in Hz to score at; None = the rate of the stored tracks.
        save_estimates: Whether to write the stems next to the scores, as float32 WAV files.
    """

    out: Path = Path("evaluation")
    model: str | None = None
    native: bool = True
    baselines: tuple[str, ...] = ()
    estimates: tuple[Path, ...] = ()
    sample_rate: int | None = None
    save_estimates: bool = False


def evaluate(request: EvaluationRequest, *, progress: Progress | None = None) -> ScoringResult:
    """Score a model and its baselines on the tracks of a data set.

    The scores of a track are written to OUT/HZ/SYSTEM/SPLIT/TRACK.json as soon as they are known,
    and the tables to OUT/HZ. A second call computes only what is missing.

    Args:
        request: What to score, and how.
        progress: Called with (done, total, label of the track).

    Returns:
        All scores and tables. Failures do not stop the rest.

    Raises:
        CheckpointError: The model is missing or cannot be read.
        ConfigError: A baseline, rate, device or combination of options is invalid.
        DatasetError: The data set, its split or a track is missing, or the tables cannot be
            written.
    """
    check_kinds(request.baselines)
    dataset, tracks = open_tracks(request)
    rate = stored_rate(tracks) if request.sample_rate is None else request.sample_rate
    check_rates(tracks, [rate], allow_upsampled=request.allow_upsampled)
    name = request.model
    if name is None and not request.estimates:
        name = DEFAULT_MODEL
    model = None if name is None else identify_model(name)
    systems = plan_systems(
        model,
        [*(["native"] if model is not None and request.native else []), *request.baselines],
        stems=dataset.stems,
        estimates=request.estimates,
        segment=request.segment,
        options=request.method_options,
    )
    plan = plan_run(
        request,
        dataset,
        tracks,
        model=model,
        systems=systems,
        sample_rates=[rate],
        folder=request.out / str(rate),
        save_estimates=request.save_estimates,
    )
    return carry_out(plan, progress)
