import itertools
import math

import pytest
import torch
from torch import Tensor

from sfisep_core.data.equalizer import EQUALIZER_FREQUENCIES, equalize, equalizer_response

CURVE = torch.tensor([6.0, -6.0, 3.0, 0.0, -2.0, 5.0, -6.0, 6.0], dtype=torch.float64)


def noise(*shape: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


def test_points_are_evenly_spaced_in_octaves() -> None:
    assert len(EQUALIZER_FREQUENCIES) == 8
    assert EQUALIZER_FREQUENCIES[0] == 40.0
    assert EQUALIZER_FREQUENCIES[-1] == pytest.approx(16000.0, rel=1e-12)
    ratios = [b / a for a, b in itertools.pairwise(EQUALIZER_FREQUENCIES)]
    assert ratios == pytest.approx([400 ** (1 / 7)] * 7, rel=1e-12)


def test_response_goes_through_the_points_along_a_cosine() -> None:
    points = torch.tensor(EQUALIZER_FREQUENCIES, dtype=torch.float64)
    torch.testing.assert_close(equalizer_response(CURVE, points), CURVE, rtol=0, atol=1e-9)
    for share in (0.25, 0.5, 0.8):
        between = points[:-1] * (points[1:] / points[:-1]) ** share
        weight = (1 - math.cos(math.pi * share)) / 2
        expected = CURVE[:-1] + weight * (CURVE[1:] - CURVE[:-1])
        torch.testing.assert_close(equalizer_response(CURVE, between), expected)
    outside = torch.tensor([0.0, 1e-3, 39.9, 16001.0, 96000.0], dtype=torch.float64)
    expected = torch.tensor([6.0, 6.0, 6.0, 6.0, 6.0], dtype=torch.float64)
    torch.testing.assert_close(equalizer_response(CURVE, outside), expected)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_stem_without_gains_keeps_its_samples(dtype: torch.dtype) -> None:
    stems = noise(2, 2, 2, 1001).to(dtype)
    curves = torch.zeros(2, 2, 8, dtype=dtype)
    curves[1, 0] = CURVE
    changed = equalize(stems, curves, sample_rate=8000)
    assert changed.dtype == dtype
    same = torch.tensor([[True, True], [False, True]])
    assert torch.equal(changed[same], stems[same])
    assert not torch.isclose(changed[1, 0], stems[1, 0], rtol=1e-3).any(dim=-1).all()


@pytest.mark.parametrize("decibels", [-6.0, 20.0])
def test_equal_gains_are_a_factor(decibels: float) -> None:
    stems = noise(1, 3, 2, 4999)
    changed = equalize(stems, torch.full((1, 3, 8), decibels).double(), sample_rate=11025)
    torch.testing.assert_close(changed, stems * 10 ** (decibels / 20), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("rate", [8000, 11025, 44100])
@pytest.mark.parametrize("point", [2, 4])  # 221 and 1228 Hz
def test_tone_gets_the_gain_of_its_frequency_and_no_phase(rate: int, point: int) -> None:
    phase = 2 * math.pi * EQUALIZER_FREQUENCIES[point] / rate * torch.arange(2 * rate).double()
    changed = equalize(phase.sin()[None, None, None], CURVE[None, None], sample_rate=rate)[0, 0, 0]
    gain = 10 ** (CURVE[point].item() / 20)
    middle = slice(rate // 2, -rate // 2)
    torch.testing.assert_close(changed[middle], gain * phase.sin()[middle], rtol=0, atol=1e-4)


@pytest.mark.parametrize(("decibels", "least_db"), [(6.0, 70.0), (20.0, 50.0)])
def test_nothing_comes_round_from_the_other_end(decibels: float, least_db: float) -> None:
    # The gains whose response to a click lasts longest: one step, where octaves are the fewest Hz.
    curve = torch.tensor([decibels] + 7 * [-decibels], dtype=torch.float64)
    for start in (0, 4999):
        click = torch.zeros(1, 1, 1, 5000, dtype=torch.float64)
        click[..., start] = 1.0
        changed = equalize(click, curve[None, None], sample_rate=8000)[0, 0, 0]
        far = changed[2500:] if start == 0 else changed[:2500]
        wrapped_db = 10 * math.log10(far.square().sum() / changed.square().sum())
        assert wrapped_db < -least_db


def test_stems_do_not_depend_on_each_other() -> None:
    stems, curves = noise(3, 2, 2, 3000), noise(3, 2, 8)
    together = equalize(stems, curves, sample_rate=16000)
    for example in range(3):
        for source in range(2):
            alone = equalize(
                stems[example, source, None, None],
                curves[example, source, None, None],
                sample_rate=16000,
            )
            torch.testing.assert_close(together[example, source], alone[0, 0])
