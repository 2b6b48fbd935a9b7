"""The report's page: its sections in their order."""

import html
from collections.abc import Mapping, Sequence
from pathlib import Path

from sfisep_core.atomic import written_whole
from sfisep_core.evaluation.metrics import DEFINITIONS
from sfisep_core.evaluation.report.drawing import check_available
from sfisep_core.evaluation.report.figures import score_figure
from sfisep_core.evaluation.report.filter_responses import filter_responses
from sfisep_core.evaluation.report.listening import listening_table
from sfisep_core.evaluation.report.markup import document, inline_svg, kilohertz
from sfisep_core.evaluation.report.response_figure import responses_figure
from sfisep_core.evaluation.report.score_tables import difference_table, score_table
from sfisep_core.evaluation.study import ALL_SOURCES, Study
from sfisep_core.models.contract import SeparationModel

_DRAWN = ("sdr", "si_sdr", "si_sdr_common_band")
_COMPARED = ("si_sdr", "si_sdr_common_band", "sdr")
_EQUIVARIANCE = "equivariance_db"

_SYSTEMS = {
    "native": "the recording as it is; SFI layers make their filters for its sampling frequency",
    "resample": "resampled to the native rate and back, by torchaudio's windowed sinc",
    "soxr": "resampled to the native rate and back, by soxr at its highest quality",
    "noisy-kernel": "as resample, with noise on the taps of the up-sampling kernel",
    "post-noise": "as resample, with white noise added after up-sampling",
    "direct": "the recording as it is, taken for one at the native rate",
    "mixture": "the mixture itself for every source: what any separation has to surpass",
    "oracle-irm": "masks that know the references: about the best that masks can do",
}


def write_report(study: Study, path: Path, *, model: SeparationModel | None) -> None:
    """Write the report as one HTML file that loads nothing from elsewhere.

    Args:
        study: What was found.
        path: File to write.
        model: For the responses of its encoder; None leaves them out.

    Raises:
        ConfigError: matplotlib is not installed.
        OSError: The file cannot be written.
    """
    check_available()
    found = {key.metric for key, values in study.scores.items() if values}
    metrics = [metric for metric in DEFINITIONS if metric in found]
    sections = (
        _introduction(study),
        _reading(study, metrics),
        _scores(study, [metric for metric in _DRAWN if metric in metrics]),
        _differences(study, [metric for metric in _COMPARED if metric in metrics]),
        _equivariance(study, known=_EQUIVARIANCE in metrics),
        _filters(study, model),
        _listening(study),
        _tables(study, metrics),
    )
    count = len(study.sample_rates)
    title = f"{study.model} at {count} sampling frequenc{'ies' if count > 1 else 'y'}"
    page = document(title=title, body="\n".join(sections))
    with written_whole(path) as temporary:
        temporary.write_text(page, encoding="utf-8")


def _introduction(study: Study) -> str:
    systems = "".join(
        f"<li><strong>{html.escape(name)}</strong>"
        f"{f': {html.escape(_SYSTEMS[name])}' if name in _SYSTEMS else ''}</li>"
        for name in study.systems
    )
    tracks = ", ".join(html.escape(track) for track in study.tracks)
    facts = {
        "Model": f"{html.escape(study.model)}, native rate {kilohertz(study.native_rate)} kHz"
        f"<br><small>SHA-256 {html.escape(study.model_sha256)}</small>",
        "Data": html.escape(study.data),
        "Tracks": f"<details><summary>{len(study.tracks)}</summary>{tracks}</details>",
        "Sampling frequencies": f"{', '.join(map(kilohertz, study.sample_rates))} kHz",
    }
    return (
        "<p>One model, run in several ways on the same music at several sampling frequencies.</p>"
        f"{_definitions(facts)}<p>What is compared:</p><ul>{systems}</ul>"
    )


def _reading(study: Study, metrics: Sequence[str]) -> str:
    definitions = {
        html.escape(definition.label): f"{html.escape(definition.definition)}. In "
        f"{html.escape(definition.unit)}, {'higher' if definition.higher_is_better else 'lower'} "
        "is better."
        for definition in map(DEFINITIONS.__getitem__, metrics)
    }
    return (
        "<h2>How to read it</h2><p>Every system separates every track at every sampling frequency, "
        "and is scored against references at that frequency. Compare systems at one frequency: "
        "scores at different ones are of different bands, save where the score is of a band that "
        f"all have. At the native rate, {kilohertz(study.native_rate)} kHz, nothing is resampled "
        "and all methods of running the model are the same.</p><p>Over tracks, a score is given as "
        "its median with a 95&nbsp;% interval (bootstrap over tracks). A score that does not exist "
        "(of a silent source) is left out, and the number of tracks says how many have it; an "
        "infinite one (of a silent or a perfect estimate) counts, but is not drawn; of frames, "
        "infinite scores are left out, as museval does. As a source, "
        "<em>mean</em> is, of each track, the mean over the sources that sound in it.</p>"
        "<details open><summary>The scores</summary>"
        f"{_definitions(definitions)}</details>"
    )


def _scores(study: Study, metrics: Sequence[str]) -> str:
    heading = "<h2>Scores against sampling frequency</h2>"
    if not metrics:
        return f"{heading}<p>None of the scores that are drawn was computed.</p>"
    options = "".join(
        f'<option value="{metric}">{html.escape(DEFINITIONS[metric].label)}</option>'
        for metric in metrics
    )
    figures = "\n".join(
        f'<figure data-score="{metric}"><figcaption>{html.escape(DEFINITIONS[metric].label)}: '
        "median over tracks, shaded its 95&nbsp;% interval; the upright line marks the native "
        'rate.</figcaption><div class="scroll"><div class="wide">'
        f"{_score_svg(study, metric)}</div></div></figure>"
        for metric in metrics
    )
    return (
        f'{heading}<p class="choice"><label>Score: <select id="score">{options}</select></label>'
        f"</p>\n{figures}"
    )


def _score_svg(study: Study, metric: str) -> str:
    label = f"{DEFINITIONS[metric].label} against sampling frequency; the numbers are in the tables"
    return inline_svg(score_figure(study, metric=metric), name=metric, label=label)


def _differences(study: Study, metrics: Sequence[str]) -> str:
    first, *others = study.systems
    heading = f"<h2>{html.escape(first)} minus the others</h2>"
    if not metrics or not others:
        return f"{heading}<p>There is nothing to compare.</p>"
    tables = "".join(difference_table(study, metric=metric) for metric in metrics)
    return (
        f"{heading}<p>Paired by track: mean difference in dB with its 95&nbsp;% interval "
        f"(bootstrap over tracks), bold where p is below 0.05; in how many tracks "
        f"{html.escape(first)} is ahead; two-sided p of Wilcoxon's signed-rank test. The p values "
        "are not corrected for the number of comparisons.</p>\n"
        + tables.replace("<details>", "<details open>", 1)
    )


def _equivariance(study: Study, *, known: bool) -> str:
    heading = "<h2>Equivariance error across rates</h2>"
    if not known:
        return f"{heading}<p>The study has no scores of it.</p>"
    figure = inline_svg(
        score_figure(study, metric=_EQUIVARIANCE, sources=[ALL_SOURCES]),
        name=_EQUIVARIANCE,
        label="Equivariance error against sampling frequency; the numbers are in the tables",
    )
    return (
        f"{heading}<p>{html.escape(DEFINITIONS[_EQUIVARIANCE].definition)}. Lower is better; "
        "median over tracks, shaded its 95&nbsp;% interval.</p>"
        f'<figure class="single">{figure}</figure>'
    )


def _filters(study: Study, model: SeparationModel | None) -> str:
    heading = "<h2>Filter responses of the encoder</h2>"
    responses = [] if model is None else filter_responses(model, study.sample_rates)
    if not responses:
        return f"{heading}<p>Left out: no model was given, or it has no SFI encoder.</p>"
    figure = inline_svg(
        responses_figure(responses),
        name="filters",
        label="Magnitude responses of the encoder's filters at each sampling frequency",
    )
    return (
        f"{heading}<p>Magnitude responses of the filters as the encoder makes them for each "
        "sampling frequency, sorted by centre frequency; blank is above half the sampling "
        "frequency. 0 dB is the strongest response of all. A tone gets frames of the same size at "
        "every rate, so that the panels compare as they are; only where time-domain taps keep "
        "their published gain, which grows with the sampling frequency, it is divided out. In "
        "brackets: energy of the difference from the responses at the native rate, relative to "
        "theirs, up to 0.45 of the lower of both rates. Where lines and panels agree, the encoder "
        "hears the same at every rate.</p>"
        f'<figure class="scroll"><div class="wide">{figure}</div></figure>'
    )


def _listening(study: Study) -> str:
    tables = "".join(listening_table(example) for example in study.examples)
    return f"<h2>Listen</h2>{tables or '<p>No excerpts were chosen.</p>'}"


def _tables(study: Study, metrics: Sequence[str]) -> str:
    tables = "".join(score_table(study, metric=metric) for metric in metrics)
    return f"<h2>All scores</h2><p>Median [95&nbsp;% interval], mean, tracks.</p>\n{tables}"


def _definitions(entries: Mapping[str, str]) -> str:
    return f"<dl>{''.join(f'<dt>{k}</dt><dd>{v}</dd>' for k, v in entries.items())}</dl>"
