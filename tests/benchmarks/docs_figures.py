"""Draw the figures of the pages of text.

    python -m tests.benchmarks.docs_figures

writes `docs/scores-over-rates.svg`, from docs/reference/results.csv: the mean SI-SDR of the stems
of the rendered test music, up to the 4 kHz that all rates have, against sampling frequency; and
`docs/explanation/filter-responses.svg`: the encoder's filters of the small bundled model at
several sampling frequencies.
"""

import csv
from pathlib import Path

from sfisep_core.evaluation.report.figures import score_figure
from sfisep_core.evaluation.report.filter_responses import filter_responses
from sfisep_core.evaluation.report.response_figure import responses_figure
from sfisep_core.evaluation.study import ALL_SOURCES, ScoreKey, Study
from sfisep_core.evaluation.summary import Summary
from sfisep_core.pretrained.resolve import resolve_model
from tests.benchmarks.resampling_page import COMMON_BAND

DOCS = Path(__file__).resolve().parents[2] / "docs"
MODEL = "sfi-conv-tasnet-small"
RESPONSE_RATES = (8000, 16000, 32000, 44100)
MUSIC = "rendered test"
SYSTEMS = ("native", "resample", "direct")
NATIVE_RATE = 32000


def read_summaries() -> dict[ScoreKey, Summary]:
    """Read the summaries that the figure shows."""
    summaries = {}
    with (DOCS / "reference/results.csv").open(encoding="utf-8", newline="") as file:
        for row in csv.DictReader(file):
            shown = (row["music"], row["source"], row["metric"]) == (MUSIC, "mean", COMMON_BAND)
            if shown and row["system"] in SYSTEMS:
                key = ScoreKey(int(row["sample_rate"]), row["system"], ALL_SOURCES, COMMON_BAND)
                median, mean, low, high = (
                    float(row[name]) for name in ("median", "mean", "low", "high")
                )
                summaries[key] = Summary(median, mean, low, high, int(row["tracks"]))
    return summaries


def score_over_rates() -> str:
    """Draw the scores as SVG."""
    summaries = read_summaries()
    study = Study(
        model=MODEL,
        model_sha256="",
        native_rate=NATIVE_RATE,
        data=MUSIC,
        systems=SYSTEMS,
        sample_rates=sorted({key.sample_rate for key in summaries}),
        sources=(),
        tracks=(),
        scores={},
        summaries=summaries,
        differences={},
        examples=(),
    )
    return score_figure(study, metric=COMMON_BAND, sources=[ALL_SOURCES])


def main() -> None:
    """Draw and write."""
    responses = filter_responses(resolve_model(MODEL), RESPONSE_RATES)
    figures = {
        "scores-over-rates.svg": score_over_rates(),
        "explanation/filter-responses.svg": responses_figure(responses),
    }
    for name, figure in figures.items():
        (DOCS / name).write_text(figure, encoding="utf-8")


if __name__ == "__main__":
    main()
