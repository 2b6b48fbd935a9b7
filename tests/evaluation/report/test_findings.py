import math
from collections.abc import Mapping
from dataclasses import replace

from sfisep_core.evaluation.report.findings import Finding, find
from sfisep_core.evaluation.study import ALL_SOURCES, ScoreKey, Study
from sfisep_core.evaluation.summary import Difference


def with_differences(study: Study, values: Mapping[int, Difference], metric: str) -> Study:
    """Return the study with these differences of its two systems, by sampling frequency."""
    differences = {
        (ScoreKey(rate, "native", ALL_SOURCES, metric), "resample"): value
        for rate, value in values.items()
    }
    return replace(study, differences=differences)


def difference(mean: float, low: float, high: float, tracks: int = 5) -> Difference:
    return Difference(mean, mean, low, high, p=0.5, ahead=3, tracks=tracks)


def test_extremes_and_intervals_without_zero(study: Study) -> None:
    values = {
        8000: difference(0.4, 0.1, 0.7, tracks=4),
        11025: difference(-0.3, -0.5, -0.1),
        16000: difference(0.1, -0.2, 0.4),
    }
    (finding,) = find(with_differences(study, values, "si_sdr"))
    assert finding == Finding(
        other="resample",
        label="SI-SDR",
        lowest=-0.3,
        lowest_rate=11025,
        highest=0.4,
        highest_rate=8000,
        better=1,
        worse=1,
        rates=3,
        tracks=5,
    )


def test_one_track_proves_nothing(study: Study) -> None:
    (finding,) = find(
        with_differences(study, {8000: difference(2.0, math.nan, math.nan, 1)}, "sdr")
    )
    assert (finding.label, finding.tracks) == ("SDR", 1)
    assert (finding.better, finding.worse) == (0, 0)


def test_what_has_no_finite_difference_is_left_out(study: Study) -> None:
    infinite = {8000: difference(math.inf, math.nan, math.nan)}
    assert find(with_differences(study, infinite, "si_sdr")) == []
    assert find(replace(study, differences={})) == []
