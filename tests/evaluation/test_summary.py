import math

import numpy as np
import pytest

from sfisep_core.evaluation.summary import compare, over_frames, summarise

NAN, INF = math.nan, math.inf


def test_median_over_frames_leaves_out_what_is_no_number() -> None:
    assert over_frames([1.0, NAN, 4.0, INF, 9.0, -INF]) == 4.0
    assert math.isnan(over_frames([NAN, INF]))
    assert math.isnan(over_frames([]))


def test_summary_by_hand() -> None:
    found = summarise([1.0, 2.0, 9.0, NAN])
    assert (found.median, found.mean, found.tracks) == (2.0, 4.0, 3)
    # Every median of three draws is one of the values; 26 % of them are 1 and 26 % are 9.
    assert (found.low, found.high) == (1.0, 9.0)
    assert summarise([]).tracks == 0
    assert math.isnan(summarise([]).median)


def test_infinite_scores_are_scores() -> None:
    found = summarise([5.0, -INF, -INF])
    assert (found.median, found.mean, found.high, found.tracks) == (-INF, -INF, 5.0, 3)
    assert math.isnan(summarise([-INF, INF]).mean)
    difference = compare({"a": -INF, "b": 3.0, "c": -INF}, {"a": -INF, "b": 1.0, "c": 2.0})
    assert (difference.median, difference.mean, difference.tracks) == (0.0, -INF, 3)
    assert difference.ahead == 1


def test_ahead_means_better() -> None:
    first, second = {"a": 1.0, "b": 2.0, "c": 3.0}, {"a": 2.0, "b": 3.0, "c": 1.0}
    assert compare(first, second).ahead == 1
    assert compare(first, second, higher_is_better=False).ahead == 2


def test_interval_covers_the_median_as_often_as_it_says() -> None:
    rng = np.random.default_rng(1)
    covered = 0
    for _ in range(200):
        found = summarise(rng.normal(3.0, 2.0, size=40))
        covered += found.low <= 3.0 <= found.high
    assert 180 <= covered <= 199  # 95 % of 200, within three deviations


def test_differences_are_paired_by_track() -> None:
    first = {"a": 5.0, "b": 7.0, "c": 1.0, "only": 99.0, "bad": NAN}
    second = {"a": 4.0, "b": 4.0, "c": 2.0, "other": -99.0, "bad": 1.0}
    found = compare(first, second)
    assert (found.mean, found.median, found.ahead, found.tracks) == (1.0, 1.0, 2, 3)
    assert found.low < 1.0 < found.high


def test_p_is_that_of_the_exact_signed_rank_test() -> None:
    # All five differences have one sign: two of the 2^5 equally likely signs are as extreme.
    first = {str(n): n + 0.1 * n**2 for n in range(1, 6)}
    second = dict.fromkeys(first, 0.0)
    assert compare(first, second).p == pytest.approx(2 / 32)
    assert compare(second, first).p == pytest.approx(2 / 32)
    assert math.isnan(compare(first, first).p)
    assert compare(first, first).mean == 0.0
    assert math.isnan(compare({"1": 1.0}, {"1": 0.0}).p)
    assert compare({}, {}).tracks == 0
