"""The page itself."""

import html
import math
from collections.abc import Iterable, Sequence
from pathlib import Path

from sfisep_core.atomic import written_whole
from sfisep_core.evaluation.metrics import DEFINITIONS
from sfisep_core.evaluation.report.figures import responses_figure, score_figure
from sfisep_core.evaluation.report.filter_responses import filter_responses
from sfisep_core.evaluation.report.listening import listening_table
from sfisep_core.evaluation.study import ALL_SOURCES, ScoreKey, Study
from sfisep_core.evaluation.summary import Difference, summarise
from sfisep_core.models.contract import SeparationModel

_FIGURES = ("sdr", "si_sdr", "si_sdr_common_band")
_TESTED = ("si_sdr", "si_sdr_common_band", "sdr")

_STYLE = """
:root { color-scheme: light dark; --line: #8886; }
body { font: 16px/1.5 system-ui, sans-serif; max-width: 75rem; margin: 0 auto; padding: 1rem; }
h1, h2 { line-height: 1.2; } h2 { margin-top: 2.5rem; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; font-size: .85rem; }
th, td { border: 1px solid var(--line); padding: .25rem .5rem; text-align: right; }
th { text-align: left; font-weight: 600; } caption { text-align: left; padding: .5rem 0; }
.scroll { overflow-x: auto; } figure { margin: 1rem 0; }
figure svg { width: 100%; height: auto; background: #fff; }
figure.narrow { max-width: 36rem; }
audio { display: block; width: 11rem; height: 2rem; }
.spectrogram { display: block; width: 11rem; height: 5rem; image-rendering: pixelated; }
dt { font-weight: 600; } details { margin: .5rem 0; }
@media print { audio { display: none; } details { display: block; } }
"""

# Choosing a score shows its figure; starting a player stops the others.
_SCRIPT = """
const choice = document.getElementById('score');
function show() {
  for (const figure of document.querySelectorAll('figure[data-score]'))
    figure.hidden = figure.dataset.score !== choice.value;
}
if (choice) { choice.addEventListener('change', show); show(); }
document.addEventListener('play', event => {
  for (const other of document.querySelectorAll('audio')) if (other !== event.target) other.pause();
}, true);
"""


def write_report(study: Study, path: Path, *, model: SeparationModel | None) -> None:
    """Write the report as one HTML file that loads nothing from elsewhere.

    Args:
        study: What was found.
        path: File to write.
        model: For the responses of its encoder; None leaves them out.

    Raises:
        OSError: The file cannot be written.
    """
    metrics = {key.metric for key in study.scores}
    body = "".join(
        (
            _introduction(study, metrics),
            _score_section(study, [metric for metric in _FIGURES if metric in metrics]),
            _difference_section(study, [metric for metric in _TESTED if metric in metrics]),
            _equivariance_section(study, "equivariance_db" in metrics),
            _filter_section(study, model),
            _listening_section(study),
            _table_section(study, [metric for metric in DEFINITIONS if metric in metrics]),
        )
    )
    title = html.escape(f"{study.model} at {len(study.sample_rates)} sampling frequencies")
    page = (
        f'<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8"><title>{title}</title>'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f'<link rel="icon" href="data:,"><style>{_STYLE}</style></head>'
        f"<body><h1>{title}</h1>{body}<script>{_SCRIPT}</script></body></html>\n"
    )
    with written_whole(path) as temporary:
        temporary.write_text(page, encoding="utf-8")


def _introduction(study: Study, metrics: Iterable[str]) -> str:
    rates = ", ".join(_kilohertz(rate) for rate in study.sample_rates)
    names = ", ".join(study.tracks)
    facts = {
        "Model": f"{study.model}, trained at up to {_kilohertz(study.native_rate)} kHz, SHA-256 "
        f"{study.model_sha256}",
        "Music": f"{study.data}: {names}",
        "Sampling frequencies": f"{rates} kHz",
        "Compared": ", ".join(study.systems),
    }
    found = set(metrics)
    definitions = "".join(
        f"<dt>{html.escape(definition.label)} ({html.escape(definition.unit)}, "
        f"{'more' if definition.higher_is_better else 'less'} is better)</dt>"
        f"<dd>{html.escape(definition.definition)}</dd>"
        for metric, definition in DEFINITIONS.items()
        if metric in found
    )
    return (
        f"<dl>{''.join(f'<dt>{k}</dt><dd>{html.escape(v)}</dd>' for k, v in facts.items())}</dl>"
        "<p>At the rate of training all methods are the same. Scores at different rates are of "
        "different bands: compare systems at one rate, or in the band common to all.</p>"
        f"<details><summary>What the scores are</summary><dl>{definitions}</dl></details>"
    )


def _score_section(study: Study, metrics: Sequence[str]) -> str:
    options = "".join(
        f'<option value="{metric}">{html.escape(DEFINITIONS[metric].label)}</option>'
        for metric in metrics
    )
    figures = "".join(
        f'<figure data-score="{metric}">{_inline(score_figure(study, metric=metric))}</figure>'
        for metric in metrics
    )
    return (
        "<h2>Scores against sampling frequency</h2><p>Median over tracks with its 95 % interval "
        "(bootstrap over tracks); the grey line is the rate of training. "
        f'<label>Score: <select id="score">{options}</select></label></p>{figures}'
    )


def _difference_section(study: Study, metrics: Sequence[str]) -> str:
    first, *others = study.systems
    text = (
        f"<h2>{html.escape(first)} minus the others</h2><p>Paired by track: mean difference [95 % "
        "interval, bootstrap], tracks in which it is ahead, p of Wilcoxon's signed-rank test "
        "(two-sided). The p values are not corrected for the number of comparisons.</p>"
    )
    for number, metric in enumerate(metrics):
        rows = []
        for rate in study.sample_rates:
            for source in (*study.sources, ALL_SOURCES):
                key = ScoreKey(rate, first, source, metric)
                cells = [_difference(study.differences.get((key, other))) for other in others]
                if any(cell != "-" for cell in cells):
                    rows.append([_kilohertz(rate), source, *cells])
        label = html.escape(DEFINITIONS[metric].label)
        table = _table(["kHz", "source", *others], rows)
        text += (
            f"<details{' open' if number == 0 else ''}><summary>{label}</summary>{table}</details>"
        )
    return text


def _difference(found: Difference | None) -> str:
    if found is None or not found.tracks:
        return "-"
    p = "" if math.isnan(found.p) else f", p {found.p:.2g}"
    return (
        f"{found.mean:+.2f} [{found.low:+.2f}, {found.high:+.2f}], {found.ahead}/{found.tracks}{p}"
    )


def _equivariance_section(study: Study, known: bool) -> str:
    heading = "<h2>Equivariance error across rates</h2>"
    if not known:
        return f"{heading}<p>Not measured.</p>"
    definition = html.escape(DEFINITIONS["equivariance_db"].definition)
    figure = score_figure(study, metric="equivariance_db", sources=[ALL_SOURCES])
    return f'{heading}<p>{definition}</p><figure class="narrow">{_inline(figure)}</figure>'


def _filter_section(study: Study, model: SeparationModel | None) -> str:
    heading = "<h2>Filters of the encoder</h2>"
    responses = [] if model is None else filter_responses(model, study.sample_rates)
    if not responses:
        return f"{heading}<p>This model has no SFI encoder.</p>"
    return (
        f"{heading}<p>Magnitude responses of the encoder's filters as they are sampled for each "
        "rate, in the order of their centre frequencies. Where the panels agree, the encoder hears "
        "the same at every rate; white is above half the sampling frequency.</p>"
        f"<figure>{_inline(responses_figure(responses))}</figure>"
    )


def _listening_section(study: Study) -> str:
    tables = "".join(listening_table(example) for example in study.examples)
    return f"<h2>Listen</h2>{tables or '<p>No excerpts were chosen.</p>'}"


def _table_section(study: Study, metrics: Sequence[str]) -> str:
    text = "<h2>All scores</h2><p>Median [95 % interval], mean, tracks.</p>"
    for metric in metrics:
        rows = []
        for rate in study.sample_rates:
            for source in (*study.sources, ALL_SOURCES):
                cells = []
                for system in study.systems:
                    values = study.scores.get(ScoreKey(rate, system, source, metric), {})
                    found = summarise(values.values())
                    cells.append(
                        f"{found.median:.2f} [{found.low:.2f}, {found.high:.2f}], "
                        f"{found.mean:.2f}, {found.tracks}"
                        if found.tracks
                        else "-"
                    )
                if any(cell != "-" for cell in cells):
                    rows.append([_kilohertz(rate), source, *cells])
        label = html.escape(DEFINITIONS[metric].label)
        table = _table(["kHz", "source", *study.systems], rows)
        text += f"<details><summary>{label}</summary>{table}</details>"
    return text


def _table(heads: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    head = "".join(f"<th>{html.escape(cell)}</th>" for cell in heads)
    body = "".join(
        f"<tr>{''.join(f'<td>{html.escape(cell)}</td>' for cell in row)}</tr>" for row in rows
    )
    return f'<div class="scroll"><table><tr>{head}</tr>{body}</table></div>'


def _inline(svg: str) -> str:
    """Leave out what stands before the element: it has no place within a page."""
    return svg[svg.index("<svg") :]


def _kilohertz(rate: int) -> str:
    return f"{rate / 1000:g}"
