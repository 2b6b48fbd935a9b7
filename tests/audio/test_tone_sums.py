import math
from fractions import Fraction

import pytest
import torch
from scipy.fft import next_fast_len

from sfisep_core.audio.tone_sums import _next_fast_size, tone_sums

# step, samples of a frame, tones: bins of an FFT (up to half the rate, or not), and other steps.
CASES = [
    (Fraction(1, 16), 16, 9),
    (Fraction(1, 16), 16, 5),
    (Fraction(1, 17), 17, 9),
    (Fraction(1, 32), 16, 9),
    (Fraction(147, 2560), 18, 9),
    (Fraction(441, 2560), 6, 3),
    (Fraction(5, 64), 13, 1),
    (Fraction(1, 12), 16, 7),  # a step of which the frame has more than one cycle
    (Fraction(44100, 44101 * 2048), 2049, 1025),
]


@pytest.mark.parametrize(("step", "size", "tones"), CASES)
@pytest.mark.parametrize(("dtype", "bound"), [(torch.float64, 1e-13), (torch.float32, 1e-6)])
def test_sums_equal_direct_ones(
    step: Fraction, size: int, tones: int, dtype: torch.dtype, bound: float
) -> None:
    sums = tone_sums(step, size=size, tones=tones, dtype=dtype, device=torch.device("cpu"))
    number = torch.arange(size)[:, None] * torch.arange(tones)
    cycles = (number * step.numerator % step.denominator).double() / step.denominator
    basis = torch.polar(torch.ones_like(cycles), 2 * math.pi * cycles)
    generator = torch.Generator().manual_seed(0)

    frames = torch.randn(2, 3, size, generator=generator, dtype=torch.float64)
    expected = (frames + 0j) @ basis.conj()
    found = sums.analyze(frames.to(dtype))
    assert found.dtype == dtype.to_complex()
    assert (found - expected).abs().max() < bound * expected.abs().max()

    amplitudes = torch.randn(2, 3, tones, generator=generator, dtype=torch.complex128)
    amplitudes[..., 0].imag = 0  # what has no effect is not looked at
    factors = torch.randn(tones, generator=generator, dtype=torch.float64)
    back = ((factors * amplitudes) @ basis.T).real
    restored = sums.synthesize(amplitudes.to(dtype.to_complex()), factors.to(dtype))
    assert restored.dtype == dtype
    assert (restored - back).abs().max() < bound * back.abs().max()


def test_fast_sizes_are_those_of_scipy() -> None:
    for size in (*range(1, 3000), 44100, 999_983, 10_000_019):
        assert _next_fast_size(size) == next_fast_len(size, real=True)
