"""Draw the figure of the home page from docs/reference/results.csv.

    python -m tests.benchmarks.home_figure

writes `docs/scores-over-rates.svg`: the mean SI-SDR of the stems of the rendered test music, up to
the 4 kHz that all rates have, against sampling frequency.
"""

import csv
from pathlib import Path

from sfisep_core.evaluation.report.figures import score_figure
from sfisep_core.evaluation.study import ALL_SOURCES, ScoreKey, Study
from sfisep_core.evaluation.summary import Summary
from tests.benchmarks.resampling_page import COMMON_BAND

DOCS = Path(__file__).resolve().parents[2] / "docs"
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


def main() -> None:
    """Draw and write."""
    summaries = read_summaries()
    study = Study(
        model="sfi-conv-tasnet-small",
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
    figure = score_figure(study, metric=COMMON_BAND, sources=[ALL_SOURCES])
    (DOCS / "scores-over-rates.svg").write_text(figure, encoding="utf-8")


if __name__ == "__main__":
    main()
