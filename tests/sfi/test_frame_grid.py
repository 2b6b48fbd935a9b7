import math
from fractions import Fraction

import pytest

from sfisep_core.errors import ConfigError
from sfisep_core.sfi.frame_grid import (
    MARGIN_TAPS,
    MAX_TAP_SETS,
    Alignment,
    FrameGrid,
    exact_stride,
    frame_grid,
    release_is_exact,
)

HALF = Fraction(1, 2)


def grid_at(
    sample_rate: float, *, alignment: Alignment = "exact", anchor: Fraction = Fraction(0)
) -> FrameGrid:
    return frame_grid(
        sample_rate=sample_rate,
        native_rate=32000,
        kernel_size=160,
        stride=80,
        alignment=alignment,
        anchor=anchor,
    )


def centers(grid: FrameGrid, count: int) -> list[float]:
    """Give the centres of the first frames, in samples, as the taps and starts make them."""
    last = grid.first_position + grid.num_taps - 1
    found = []
    for frame in range(count):
        turn, phase = divmod(frame, grid.num_phases)
        shift = grid.shifts[grid.tap_sets[phase]]
        found.append(grid.starts[phase] + last + turn * grid.period + shift)
    return found


@pytest.mark.parametrize(
    ("sample_rate", "period", "phases", "sets"),
    [
        (8000, 20, 1, 1),
        (10000, 25, 1, 1),
        (16000, 40, 1, 1),
        (32000, 80, 1, 1),
        (96000, 240, 1, 1),
        (44100, 441, 4, 4),
        (22050, 441, 8, 8),
        (11025, 441, 16, 16),
        (44101, 44101, 400, 65),
        (400, 1, 1, 1),
        (401, 401, 400, 65),
    ],
)
@pytest.mark.parametrize("anchor", [Fraction(0), -HALF])
def test_stride_in_lowest_terms_and_exact_centers(
    sample_rate: int, period: int, phases: int, sets: int, anchor: Fraction
) -> None:
    grid = grid_at(sample_rate, anchor=anchor)
    assert (grid.period, grid.num_phases) == (period, phases)
    assert exact_stride(sample_rate=sample_rate, native_rate=32000, stride=80) == Fraction(
        period, phases
    )
    assert grid.quantized == (phases > MAX_TAP_SETS)
    assert len(grid.shifts) <= sets
    if not grid.quantized:
        assert len(grid.shifts) == sets
    assert all(-1 <= shift <= 0 for shift in grid.shifts)
    expected = [
        float((m + HALF) * Fraction(80 * sample_rate, 32000) + anchor * sample_rate / 32000)
        for m in range(2 * phases + 3)
    ]
    error = max(abs(a - b) for a, b in zip(centers(grid, len(expected)), expected, strict=True))
    assert error <= (1 / 128 if grid.quantized else 1e-12)
    if grid.quantized:
        assert error > 1 / 200
        assert all(shift * 64 == round(shift * 64) for shift in grid.shifts)


def test_grid_at_44100_by_hand() -> None:
    grid = grid_at(44100)
    # c = 55.125, 165.375, 275.625, 385.875; n0 = 56, 166, 276, 386
    assert [grid.shifts[i] for i in grid.tap_sets] == [-0.875, -0.625, -0.375, -0.125]
    assert grid.half_width == 110.25
    # |p + d| < 110.25 for d in [-1, 0]: p from -110 to 111, and four more on either side
    assert (grid.first_position, grid.num_taps) == (-114, 230)
    assert grid.starts == (56 - 115, 166 - 115, 276 - 115, 386 - 115)


@pytest.mark.parametrize("sample_rate", [8000, 10000, 11025, 22050, 32000, 44100, 44101, 50000])
def test_every_sample_of_a_kernel_has_a_tap_and_its_margin(sample_rate: int) -> None:
    grid = grid_at(sample_rate, anchor=-HALF)
    last = grid.first_position + grid.num_taps - 1
    for shift in grid.shifts:
        assert abs(grid.first_position - 1 + shift) >= grid.half_width + MARGIN_TAPS
        assert abs(last + 1 + shift) >= grid.half_width + MARGIN_TAPS


@pytest.mark.parametrize("sample_rate", [8000, 11025, 22050, 32000, 44100, 44101])
def test_number_of_frames_covers_the_signal(sample_rate: int) -> None:
    grid = grid_at(sample_rate)
    for length in (0, 1, 2, 19, 20, 21, 110, 111, 220, 221, 441, 442, 44100, 1234567):
        assert grid.num_frames(length) == math.ceil(Fraction(length * 32000, sample_rate * 80))


@pytest.mark.parametrize(
    ("sample_rate", "hop", "taps", "start", "first"),
    [
        (8000, 20, 40, -10, -19),
        (32000, 80, 160, -40, -79),
        (48000, 120, 240, -60, -119),
        (10000, 25, 50, -12, -24),
        (25200, 63, 126, -31, -62),
    ],
)
def test_release_layout(sample_rate: int, hop: int, taps: int, start: int, first: int) -> None:
    grid = grid_at(sample_rate, alignment="release")
    assert (grid.period, grid.num_taps, grid.starts) == (hop, taps, (start,))
    assert (grid.first_position, grid.shifts, grid.half_width) == (first, (), taps / 2)


def test_release_layout_is_exact_where_kernel_and_stride_are_whole() -> None:
    def whole(sample_rate: int) -> bool:
        return release_is_exact(
            sample_rate=sample_rate, native_rate=32000, kernel_size=160, stride=80
        )

    assert all(map(whole, (400, 8000, 10000, 12000, 32000, 96000)))
    assert not any(map(whole, (11025, 22050, 44100, 44101, 200, 32001)))


@pytest.mark.parametrize("sample_rate", [0, -8000, 399, 8000.5])
def test_rates_without_a_sample_a_stride_or_not_whole_are_refused(sample_rate: float) -> None:
    with pytest.raises(ConfigError, match="at least 400 Hz"):
        grid_at(sample_rate)


def test_a_whole_number_of_another_type_is_a_rate() -> None:
    assert grid_at(22050.0) == grid_at(22050)
