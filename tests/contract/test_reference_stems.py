import numpy as np
import pytest

from tests.contract.reference_stems import FILE, RATES, key, stems

pytestmark = pytest.mark.slow

CASES = [(variant, rate) for variant, rates in RATES.items() for rate in rates]


@pytest.mark.parametrize(("variant", "sample_rate"), CASES)
def test_stems_are_as_they_were(variant: str, sample_rate: int) -> None:
    with np.load(FILE) as arrays:
        expected = arrays[key(variant, sample_rate)]
    actual = stems(variant, sample_rate)
    assert actual.shape == expected.shape
    assert np.abs(actual - expected).max() < 1e-4 * np.abs(expected).max()
    # Sources differ, and so does the mixture from them: the network has a part in it.
    assert np.abs(expected - expected.mean(axis=0)).max() > 1e-3 * np.abs(expected).max()
