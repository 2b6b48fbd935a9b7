"""The report's page: the data passed to its template."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from sfisep_core.evaluation.metrics import DEFINITIONS
from sfisep_core.evaluation.report.drawing import check_available
from sfisep_core.evaluation.report.figures import score_figure
from sfisep_core.evaluation.report.filter_responses import filter_responses
from sfisep_core.evaluation.report.findings import find
from sfisep_core.evaluation.report.listening import excerpt
from sfisep_core.evaluation.report.response_figure import responses_figure
from sfisep_core.evaluation.report.score_tables import difference_table, score_table
from sfisep_core.evaluation.report.svg import inline_svg
from sfisep_core.evaluation.report.templating import templates
from sfisep_core.evaluation.study import ALL_SOURCES, Study
from sfisep_core.foundation.atomic import written_whole
from sfisep_core.models.contract import SeparationModel

if TYPE_CHECKING:
    from markupsafe import Markup

_DRAWN = ("sdr", "si_sdr", "si_sdr_common_band")
_COMPARED = ("si_sdr", "si_sdr_common_band", "sdr")
_EQUIVARIANCE = "equivariance_db"

_SYSTEMS = {
    "native": "the recording as it is; filters or windows are computed for its sampling frequency",
    "resample": "resampled to the native rate and back, by torchaudio's windowed sinc",
    "soxr": "resampled to the native rate and back, by soxr at its highest quality",
    "noisy-kernel": "as resample, with noise on the taps of the up-sampling kernel",
    "post-noise": "as resample, with white noise added after up-sampling",
    "direct": "the recording as it is, taken for one at the native rate",
    "mixture": "the mixture itself for every source: what any separation has to surpass",
    "oracle-irm": "masks that know the references: about the best that masks can do",
}


def write_report(study: Study, path: Path, *, model: SeparationModel | None) -> None:
    """Write the report as one self-contained HTML file.

    Args:
        study: The results.
        path: File to write.
        model: Model whose encoder's responses are shown; None omits them.

    Raises:
        ConfigError: matplotlib is not installed.
        OSError: The file cannot be written.
    """
    check_available()
    present = {key.metric for key, values in study.scores.items() if values}
    metrics = [metric for metric in DEFINITIONS if metric in present]
    count = len(study.sample_rates)
    page = templates().get_template("report.html.j2")
    text = page.render(
        title=f"{study.model} at {count} sampling frequenc{'ies' if count > 1 else 'y'}",
        study=study,
        findings=find(study),
        system_descriptions=_SYSTEMS,
        metrics=[DEFINITIONS[metric] for metric in metrics],
        score_figures=[_score_figure(study, metric) for metric in _DRAWN if metric in metrics],
        difference_tables=[
            difference_table(study, metric=metric)
            for metric in _COMPARED
            if metric in metrics and len(study.systems) > 1
        ],
        equivariance=DEFINITIONS[_EQUIVARIANCE],
        equivariance_figure=_equivariance_figure(study) if _EQUIVARIANCE in metrics else None,
        filter_figure=_filter_figure(study, model),
        excerpts=[excerpt(example) for example in study.examples],
        score_tables=[score_table(study, metric=metric) for metric in metrics],
    )
    with written_whole(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


@dataclass(frozen=True)
class _Figure:
    name: str
    label: str
    svg: "Markup"


def _score_figure(study: Study, metric: str) -> _Figure:
    name = DEFINITIONS[metric].label
    label = f"{name} against sampling frequency; the numbers are in the tables"
    drawing = inline_svg(score_figure(study, metric=metric), name=metric, label=label)
    return _Figure(metric, name, drawing)


def _equivariance_figure(study: Study) -> "Markup":
    return inline_svg(
        score_figure(study, metric=_EQUIVARIANCE, sources=[ALL_SOURCES]),
        name=_EQUIVARIANCE,
        label="Equivariance error against sampling frequency; the numbers are in the tables",
    )


def _filter_figure(study: Study, model: SeparationModel | None) -> "Markup | None":
    responses = [] if model is None else filter_responses(model, study.sample_rates)
    if not responses:
        return None
    return inline_svg(
        responses_figure(responses),
        name="filters",
        label="Magnitude responses of the encoder's filters at each sampling frequency",
    )
