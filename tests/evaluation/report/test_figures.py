import sys
from dataclasses import replace

import numpy as np
import pytest

from sfisep_core.errors import ConfigError
from sfisep_core.evaluation.report.figures import lines_of, score_figure, spread
from sfisep_core.evaluation.study import ALL_SOURCES, ScoreKey, Study
from sfisep_core.evaluation.summary import summarise
from tests.evaluation.report.conftest import SAMPLE_RATES, SOURCES

matplotlib = pytest.importorskip("matplotlib")


def test_lines_are_the_summaries(study: Study) -> None:
    native, resample = lines_of(study, source=ALL_SOURCES, metric="si_sdr")
    assert (native.system, resample.system) == ("native", "resample")
    for line in (native, resample):
        assert line.sample_rates == list(SAMPLE_RATES)
        for place, rate in enumerate(SAMPLE_RATES):
            key = ScoreKey(rate, line.system, ALL_SOURCES, "si_sdr")
            expected = summarise(study.scores[key].values())
            shown = line.medians[place], line.lows[place], line.highs[place]
            assert shown == (expected.median, expected.low, expected.high)


def test_rates_without_the_score_are_left_out(study: Study) -> None:
    native, resample = lines_of(study, source=SOURCES[0], metric="si_sdr")
    assert native.sample_rates == [8000, 11025, 16000]
    assert resample.sample_rates == [16000]  # empty at 8000 Hz, NaN at 11025 Hz
    assert lines_of(study, source=SOURCES[0], metric="equivariance_db") == []


def test_median_interval_of_known_values(study: Study) -> None:
    key = ScoreKey(8000, "native", ALL_SOURCES, "sdr")
    known = replace(study, summaries={key: summarise([1.0, 1.0, 1.0])})
    (line,) = lines_of(known, source=ALL_SOURCES, metric="sdr")
    assert (line.medians, line.lows, line.highs) == ([1.0], [1.0], [1.0])


@pytest.mark.parametrize(
    ("places", "expected"),
    [
        ([], []),
        ([0.3], [0.3]),
        ([0.2, 0.8], [0.2, 0.8]),
        ([0.5, 0.5], [0.45, 0.55]),
        ([0.9, 0.1, 0.12], [0.9, 0.06, 0.16]),
        ([1.0, 1.0, 0.0], [0.9, 1.0, 0.0]),
        ([0.0, 0.0, 0.0], [0.0, 0.1, 0.2]),
    ],
)
def test_labels_move_apart_as_little_as_needed(places: list[float], expected: list[float]) -> None:
    np.testing.assert_allclose(spread(places, 0.1), expected, atol=1e-12)


def test_more_labels_than_there_is_room_for() -> None:
    np.testing.assert_allclose(spread([0.5] * 5, 0.4), [0, 0.25, 0.5, 0.75, 1])


@pytest.mark.slow
def test_same_bytes_whatever_the_settings(study: Study) -> None:
    first = score_figure(study, metric="sdr")
    settings = {"font.size": 20, "svg.hashsalt": None, "axes.facecolor": "red"}
    with matplotlib.rc_context(settings):
        second = score_figure(study, metric="sdr")
        assert {key: matplotlib.rcParams[key] for key in settings} == settings
    assert first == second
    assert "matplotlib.pyplot" not in first
    assert first.startswith("<?xml")


@pytest.mark.slow
def test_names_are_no_formulas(study: Study) -> None:
    odd = replace(study, sources=("$x_1$", "$broken"), scores={})
    assert "<svg" in score_figure(odd, metric="sdr")  # `$broken` as a formula would be an error


@pytest.mark.slow
def test_one_score_at_one_rate(bare_study: Study) -> None:
    assert "<svg" in score_figure(bare_study, metric="si_sdr")


def test_without_matplotlib(monkeypatch: pytest.MonkeyPatch) -> None:
    from sfisep_core.evaluation.report import check_available

    check_available()
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(ConfigError, match=r'pip install "sfisep\[plots\]"'):
        check_available()
