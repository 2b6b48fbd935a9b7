import itertools
from collections.abc import Sequence

import numpy as np
import pytest

from sfisep_core.errors import ConfigError
from sfisep_core.separation.permutation import are_unnamed, check_sources_fit, match_estimates


@pytest.mark.parametrize(
    ("sources", "expected"),
    [
        (("s1", "s2"), True),
        (("s2", "s1", "s3"), True),
        (("s1",), False),
        (("s1", "s3"), False),
        (("vocals", "s1"), False),
        (("vocals", "drums", "bass", "other"), False),
    ],
)
def test_names_that_are_none(sources: Sequence[str], expected: bool) -> None:
    assert are_unnamed(sources) is expected


def noise(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


@pytest.mark.parametrize("order", list(itertools.permutations(range(3))))
def test_order_is_found(order: tuple[int, ...]) -> None:
    references = noise(3, 2, 500)
    scales = np.array([0.1, 2.0, -1.0], np.float32)[:, None, None]
    estimates = np.empty_like(references)
    # Estimate `order[i]` is of reference i; level, polarity and offset do not matter.
    estimates[list(order)] = scales * (references + noise(3, 2, 500, seed=1)) + 5.0
    assert match_estimates(estimates, references).tolist() == list(order)


def test_mean_over_the_sources_counts() -> None:
    references = noise(2, 1, 2000)
    # The first estimate is a little nearer to the second reference; the second is much nearer.
    estimates = np.stack(
        [references[0] + 1.1 * references[1], 0.05 * references[0] + references[1]]
    )
    assert match_estimates(estimates, references).tolist() == [0, 1]


@pytest.mark.parametrize("bad", [0.0, np.nan, np.inf])
def test_what_is_silent_or_not_finite_gets_what_is_left(bad: float) -> None:
    references = noise(3, 1, 500)
    estimates = references[[2, 0, 1]]
    estimates[1] = bad
    assert match_estimates(estimates, references).tolist() == [1, 2, 0]
    estimates[:] = bad
    assert sorted(match_estimates(estimates, references)) == [0, 1, 2]


def test_perfect_estimates_are_found() -> None:
    references = noise(2, 1, 500)
    assert match_estimates(references[::-1], references).tolist() == [1, 0]


def test_sources_have_to_fit() -> None:
    music = ("vocals", "drums", "bass", "other")
    check_sources_fit(("vocals", "other"), music, where="x")
    check_sources_fit(("s2", "s1"), ("s1", "s2"), where="x")
    for sources, stems, message in (
        (("s1", "s2"), music, r"x: expected stems of the data set \(vocals, .*, got s1, s2"),
        (("vocals", "s1"), ("s1", "s2"), r"x: expected .* \(s1, s2\), got vocals"),
        (("s1", "s2"), ("s1", "s2", "s3"), r"x: expected .* \(s1, s2, s3\), got s1, s2"),
    ):
        with pytest.raises(ConfigError, match=message):
            check_sources_fit(sources, stems, where="x")
