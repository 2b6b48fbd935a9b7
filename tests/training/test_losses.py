import math
from typing import get_args

import pytest
import torch
from torch import Tensor

from sfisep_core.models.sources import DEFAULT_SOURCES
from sfisep_core.training.dissimilarity import DissimilarityConfig, dissimilarity_loss
from sfisep_core.training.losses import LossName, source_losses, source_weights
from sfisep_core.training.permutation_invariant import pit_si_snr_loss
from sfisep_core.training.spectral_losses import complex_mse_loss, magnitude_l1_loss, stft_loss
from sfisep_core.training.waveform_losses import l1_loss, si_sdr_loss, snr_loss

SAMPLES = 4800
NAMES: tuple[LossName, ...] = get_args(LossName)
ALL: dict[LossName, float] = {name: 0.5 * (i + 1) for i, name in enumerate(NAMES)}
WINDOW = 0.032
# Strong enough to count beside the others.
APART = DissimilarityConfig(alpha=0.1, beta=0.2, gamma=0.3, against="estimates")


def tone(periods: int, *, energy: float = 1.0) -> Tensor:
    """Give a tone of whole periods: orthogonal to every other one."""
    phase = 2 * math.pi * periods * torch.arange(SAMPLES, dtype=torch.float64) / SAMPLES
    return torch.sin(phase) * math.sqrt(2 * energy / SAMPLES)


def batch(*signals: Tensor) -> Tensor:
    """Give one mono example, shape (1, source, 1, time)."""
    return torch.stack(signals)[None, :, None]


SILENCE = torch.zeros(SAMPLES, dtype=torch.float64)


def noise(*shape: int, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, generator=generator, dtype=torch.float64)


def losses_of(
    losses: dict[LossName, float],
    *,
    estimates: Tensor,
    references: Tensor,
    rate: int = 8000,
    floor_db: float = -30,
) -> Tensor:
    return source_losses(
        losses,
        estimates=estimates,
        references=references,
        sample_rate=rate,
        sources=DEFAULT_SOURCES[: references.shape[1]],
        floor_db=floor_db,
        window_seconds=WINDOW,
        dissimilarity=APART,
    )


def loss_of(name: LossName, *, estimates: Tensor, references: Tensor, rate: int = 8000) -> Tensor:
    return losses_of({name: 1.0}, estimates=estimates, references=references, rate=rate)


# SNR


@pytest.mark.parametrize("ratio_db", [-12.0, 0.0, 30.0])
def test_snr_of_a_known_noise_ratio(ratio_db: float) -> None:
    references = batch(tone(1), tone(2, energy=4.0))
    error = batch(tone(7), tone(8, energy=4.0)) * 10 ** (-ratio_db / 20)
    loss = snr_loss(estimates=references + error, references=references, floor_db=-200)
    assert loss[0].tolist() == pytest.approx([-ratio_db] * 2, abs=1e-6)


def test_snr_has_a_value_for_every_example_and_source() -> None:
    references = torch.cat([batch(tone(1), tone(2)), batch(tone(3), tone(4))])
    error = torch.cat([batch(0.1 * tone(7), tone(8)), batch(0.01 * tone(7), 10 * tone(8))])
    loss = snr_loss(estimates=references + error, references=references, floor_db=-200)
    torch.testing.assert_close(loss, torch.tensor([[-20.0, 0], [-40, 20]]).double())


def test_snr_counts_channels_together() -> None:
    references = torch.stack([tone(1), tone(2)])[None, None]  # one source, two channels
    estimates = references + torch.stack([tone(3, energy=0.02), SILENCE])
    loss = snr_loss(estimates=estimates, references=references, floor_db=-200)
    assert loss.item() == pytest.approx(-20, abs=1e-6)


@pytest.mark.parametrize("floor_db", [-30.0, -10.0])
def test_snr_floor_bounds_what_is_worth_reaching(floor_db: float) -> None:
    # Two sources of energy 1, so the mixture has 2 and the floor is 2 f.
    references = batch(tone(1), tone(2))
    floor = 2 * 10 ** (floor_db / 10)
    perfect = snr_loss(estimates=references, references=references, floor_db=floor_db)
    expected = 10 * math.log10(floor / (1 + floor))
    assert perfect[0].tolist() == pytest.approx([expected] * 2, abs=1e-6)


def test_snr_of_a_silent_source_asks_for_silence() -> None:
    references = batch(tone(1), SILENCE)
    floor = 1e-3
    quiet = snr_loss(estimates=references, references=references, floor_db=-30)
    active = 10 * math.log10(floor / (1 + floor))
    assert quiet[0].tolist() == pytest.approx([active, 0.0], abs=1e-6)
    error = batch(SILENCE, tone(5, energy=0.1))
    loud = snr_loss(estimates=references + error, references=references, floor_db=-30)
    expected = 10 * math.log10((0.1 + floor) / floor)
    assert loud[0].tolist() == pytest.approx([active, expected], abs=1e-6)


# SI-SDR


@pytest.mark.parametrize("scale", [1.0, 30.0, 0.1, -1.0])
def test_si_sdr_does_not_depend_on_the_scale(scale: float) -> None:
    references = batch(tone(1), tone(2))
    estimates = references + batch(tone(7, energy=0.1), tone(8, energy=0.001))
    loss = si_sdr_loss(estimates=scale * estimates, references=references, floor_db=-30)
    assert loss[0].tolist() == pytest.approx([-10, -30], abs=1e-4)
    again = si_sdr_loss(estimates=scale * estimates, references=5 * references, floor_db=-30)
    assert again[0].tolist() == pytest.approx(loss[0].tolist(), abs=1e-9)


def test_si_sdr_is_bounded() -> None:
    references = batch(tone(1), tone(1), tone(1))
    estimates = batch(tone(2), tone(1), SILENCE)  # orthogonal, perfect, none at all
    loss = si_sdr_loss(estimates=estimates, references=references, floor_db=-30)
    assert loss[0].tolist() == pytest.approx([80, -80, 80], abs=1e-3)


def test_si_sdr_asks_silent_sources_for_silence() -> None:
    # The second source is 61 dB below the mixture, which has an energy of 1.
    references = batch(tone(1), tone(3, energy=10**-6.1))
    for level_db in (-10.0, -30.0, -60.0):
        leak = tone(5, energy=10 ** (level_db / 10))
        estimates = torch.stack([references[0, 0], leak[None]])[None].requires_grad_()
        loss = si_sdr_loss(estimates=estimates, references=references, floor_db=-30)
        expected = 10 * math.log10((10 ** (level_db / 10) + 1e-3) / 1e-3)
        assert loss[0].tolist() == pytest.approx([-80, expected], abs=1e-2)
        (gradient,) = torch.autograd.grad(loss.sum(), estimates)
        assert torch.isfinite(gradient).all()
        assert (gradient[0, 1] * leak).sum() > 0  # quieter is better
    # 2 dB louder it is a source like all others.
    sounding = batch(tone(1), tone(3, energy=10**-5.9))
    loss = si_sdr_loss(estimates=sounding, references=sounding, floor_db=-30)
    assert (loss < -60).all()


# L1


def test_l1_is_relative_to_the_mixture() -> None:
    ones = torch.ones(1, 1, 2, 100, dtype=torch.float64)
    references = torch.cat([0.6 * ones, -0.2 * ones], dim=1)  # the mixture is 0.4
    estimates = torch.cat([0.5 * ones, 0.2 * ones], dim=1)
    loss = l1_loss(estimates=estimates, references=references)
    assert loss[0].tolist() == pytest.approx([0.25, 1.0], rel=1e-12)


def test_l1_of_silence() -> None:
    references = batch(tone(1), tone(3, energy=4.0))
    nothing = l1_loss(estimates=0 * references, references=references)
    shares = references.abs().mean(dim=(-2, -1)) / references.sum(dim=1).abs().mean()
    torch.testing.assert_close(nothing, shares)


# STFT


def test_stft_of_a_perfect_estimate_is_zero() -> None:
    references = noise(2, 3, 2, SAMPLES)
    loss = stft_loss(estimates=references, references=references, sample_rate=8000, floor_db=-30)
    assert loss.abs().max() == 0


def test_stft_of_a_scaled_estimate() -> None:
    # One source is the whole mixture, and E = g S at every point: the spectral convergence is
    # (1 - g) / sqrt(1 + f), the other term -ln g. The floors, 60 dB down, cost what is left.
    references, gain = noise(1, 1, 1, SAMPLES), 0.5
    for floor_db, f in ((-200, 0.0), (-10, 0.1)):
        loss = stft_loss(
            estimates=gain * references, references=references, sample_rate=8000, floor_db=floor_db
        )
        expected = (1 - gain) / math.sqrt(1 + f) - math.log(gain)
        assert loss.item() == pytest.approx(expected, rel=1e-4)


def test_stft_of_a_silent_source() -> None:
    # The estimate of a silent source is the mixture itself: its convergence is 1 / sqrt(f), its
    # logarithms lie between the floor and the mixture's level.
    references = torch.cat([noise(1, 1, 1, SAMPLES), torch.zeros(1, 1, 1, SAMPLES).double()], dim=1)
    estimates = references.flip(1)
    loss = stft_loss(estimates=estimates, references=references, sample_rate=8000, floor_db=-20)
    assert 6 < loss[0, 1].item() - 10 < math.log(1e3)
    # The other way round the logarithms are the same, and the convergence is 1 / sqrt(1 + f).
    difference = (loss[0, 1] - loss[0, 0]).item()
    assert difference == pytest.approx(10 - 1 / math.sqrt(1.01), rel=2e-3)


def test_stft_does_not_hear_phase() -> None:
    references = noise(1, 2, 1, SAMPLES)
    flipped = loss_of("stft", estimates=-references, references=references)
    assert flipped.abs().max() == 0


def music(sample_rate: int, seed: int) -> Tensor:
    """Give one second of unsteady tones up to 3 kHz: the same music at every rate."""
    generator = torch.Generator().manual_seed(seed)
    time = torch.arange(sample_rate, dtype=torch.float64) / sample_rate
    signal = torch.zeros_like(time)
    for draw in torch.rand(40, 4, generator=generator, dtype=torch.float64):
        frequency, phase, beat, level = (draw * torch.tensor([2950, 6.28, 7, 1])).tolist()
        swell = 1 + 0.9 * torch.sin(2 * math.pi * (1 + beat) * time)
        signal += level**3 * swell * torch.sin(2 * math.pi * (50 + frequency) * time + phase)
    return signal


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "tolerance"),
    [
        ("snr", 1e-4),
        ("si-sdr", 1e-4),
        ("pit-si-snr", 1e-4),
        ("l1", 1e-2),
        ("stft", 2e-3),
        ("complex-mse", 2e-3),
        ("magnitude-l1", 2e-3),
        ("dissimilarity", 2e-3),
    ],
)
def test_losses_mean_the_same_at_every_rate(name: LossName, tolerance: float) -> None:
    values = []
    for rate in (8000, 16000, 48000, 44100):
        references = batch(*(music(rate, seed) for seed in range(3)), torch.zeros(rate).double())
        others = batch(*(music(rate, seed) for seed in range(3, 7)))
        estimates = 0.7 * references + 0.2 * others
        values.append(loss_of(name, estimates=estimates, references=references, rate=rate))
    for value in values[1:-1]:
        torch.testing.assert_close(value, values[0], rtol=tolerance, atol=0)
    # At 44.1 kHz windows are no whole number of samples.
    torch.testing.assert_close(values[-1], values[0], rtol=max(tolerance, 1e-2), atol=0)


def test_short_signals_have_an_stft_loss() -> None:
    references = noise(1, 2, 1, 20)
    loss = loss_of("stft", estimates=0.5 * references, references=references, rate=48000)
    assert torch.isfinite(loss).all()
    assert (loss > 0.1).all()


# All of them


def test_losses_are_added_with_their_weights() -> None:
    references = noise(2, 3, 2, 1000)
    estimates = references + noise(2, 3, 2, 1000, seed=1)
    each = {name: loss_of(name, estimates=estimates, references=references) for name in NAMES}
    functions = {
        "snr": snr_loss(estimates=estimates, references=references, floor_db=-30),
        "si-sdr": si_sdr_loss(estimates=estimates, references=references, floor_db=-30),
        "pit-si-snr": pit_si_snr_loss(estimates=estimates, references=references),
        "l1": l1_loss(estimates=estimates, references=references),
        "stft": stft_loss(
            estimates=estimates, references=references, sample_rate=8000, floor_db=-30
        ),
        "complex-mse": complex_mse_loss(
            estimates=estimates, references=references, sample_rate=8000, window_seconds=WINDOW
        ),
        "magnitude-l1": magnitude_l1_loss(
            estimates=estimates, references=references, sample_rate=8000, window_seconds=WINDOW
        ),
        "dissimilarity": dissimilarity_loss(
            APART,
            estimates=estimates,
            references=references,
            sample_rate=8000,
            window_seconds=WINDOW,
            sources=DEFAULT_SOURCES[:3],
        ),
    }
    for name in NAMES:
        assert each[name].shape == (2, 3)
        assert torch.equal(each[name], functions[name])
    total = losses_of(ALL, estimates=estimates, references=references)
    torch.testing.assert_close(total, sum(weight * each[name] for name, weight in ALL.items()))


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("level", [1e-2, 1e3])
def test_level_does_not_matter(name: LossName, level: float) -> None:
    references = noise(2, 3, 1, 2000)
    references[0, 1] = 0
    estimates = references + 0.3 * noise(2, 3, 1, 2000, seed=1)
    expected = loss_of(name, estimates=estimates, references=references)
    scaled = loss_of(name, estimates=level * estimates, references=level * references)
    torch.testing.assert_close(scaled, expected, rtol=1e-6, atol=0)


@pytest.mark.parametrize("kind", [torch.float32, torch.float64])
@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("reference", ["silence", "faint", "noise"])
@pytest.mark.parametrize("estimate", ["silence", "faint", "noise", "reference", "huge"])
def test_values_and_gradients_are_finite(
    name: LossName, reference: str, estimate: str, kind: torch.dtype
) -> None:
    signal = noise(2, 3, 1, 1000).to(kind)
    scales = {"silence": 0.0, "faint": 1e-18, "noise": 1.0, "huge": 1e10}
    references = scales[reference] * signal
    references[1, 1] = 0
    estimates = scales.get(estimate, 1.0) * noise(2, 3, 1, 1000, seed=1).to(kind)
    estimates = (references.clone() if estimate == "reference" else estimates).requires_grad_()
    loss = loss_of(name, estimates=estimates, references=references)
    loss.sum().backward()  # type: ignore[no-untyped-call]
    assert loss.dtype == kind
    assert torch.isfinite(loss).all()
    assert estimates.grad is not None
    assert torch.isfinite(estimates.grad).all()


@pytest.mark.parametrize("name", [name for name in NAMES if not name.endswith(("snr", "sdr"))])
def test_silent_mixtures_cost_nothing(name: LossName) -> None:
    references = torch.zeros(1, 2, 1, 2000)
    loss = loss_of(name, estimates=noise(1, 2, 1, 2000).float(), references=references)
    assert loss.abs().max() == 0


@pytest.mark.parametrize("name", ["snr", "si-sdr"])
def test_descent_goes_towards_the_reference(name: LossName) -> None:
    references = batch(tone(1), tone(2))
    estimates = (references + batch(tone(7), tone(8))).requires_grad_()
    loss = losses_of({name: 1.0}, estimates=estimates, references=references, floor_db=-200)
    loss.mean().backward()  # type: ignore[no-untyped-call]
    assert estimates.grad is not None
    # d/d|n| of 10 log10 |n|^2 is 20 / ln 10 / |n|; a source counts by half, and |n| is 1.
    slope = (estimates.grad * batch(tone(7), tone(8))).sum(dim=(-2, -1))
    assert slope.flatten().tolist() == pytest.approx([10 / math.log(10)] * 2, rel=1e-6)


def test_gradient_of_l1() -> None:
    references = batch(tone(1), tone(2))
    estimates = (references + batch(tone(7), tone(8))).requires_grad_()
    l1_loss(estimates=estimates, references=references).sum().backward()  # type: ignore[no-untyped-call]
    assert estimates.grad is not None
    size = 1 / references.sum(dim=1).abs().sum()
    error = (estimates - references).detach()
    moved = error.abs() > 1e-9
    torch.testing.assert_close(estimates.grad[moved], (size * error.sign())[moved])


@pytest.mark.parametrize("name", ["stft", "complex-mse", "magnitude-l1", "dissimilarity"])
def test_gradients_of_spectra_are_those_of_their_values(name: LossName) -> None:
    references, estimates = noise(1, 2, 1, 600), noise(1, 2, 1, 600, seed=1)
    direction, step = noise(1, 2, 1, 600, seed=2), 1e-6

    def value(shift: float) -> float:
        return loss_of(name, estimates=moved + shift * direction, references=references).sum()  # type: ignore[return-value]

    moved = estimates.requires_grad_()
    (gradient,) = torch.autograd.grad(
        loss_of(name, estimates=moved, references=references).sum(), moved
    )
    with torch.no_grad():
        slope = (value(step) - value(-step)) / (2 * step)
    assert float(slope) == pytest.approx((gradient * direction).sum().item(), rel=1e-5)


@pytest.mark.parametrize("kind", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("name", NAMES)
def test_low_precision_is_for_networks_only(name: LossName, kind: torch.dtype) -> None:
    references = noise(2, 3, 1, 1000).float()
    estimates = (references + noise(2, 3, 1, 1000, seed=1)).to(kind)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        loss = loss_of(name, estimates=estimates, references=references)
    assert loss.dtype == torch.float32
    expected = loss_of(name, estimates=estimates.double(), references=references.double())
    torch.testing.assert_close(loss.double(), expected, rtol=1e-4, atol=1e-4)


# What counts


def test_silent_sources_have_no_weight_on_request() -> None:
    # The mixture has energy 1 + 0.9e-6 + 1.1e-6.
    references = batch(tone(1), SILENCE, tone(2, energy=0.9e-6), tone(3, energy=1.1e-6))
    assert source_weights(references, mask_silent=False).tolist() == [[1, 1, 1, 1]]
    assert source_weights(references, mask_silent=True).tolist() == [[1, 0, 0, 1]]
    assert source_weights(0 * references, mask_silent=True).tolist() == [[0, 0, 0, 0]]
    assert source_weights(references.half(), mask_silent=True).dtype == torch.float32


@pytest.mark.parametrize("mask_silent", [False, True])
def test_parts_of_a_batch_add_up_to_the_whole(mask_silent: bool) -> None:
    references = noise(6, 4, 1, 1500)
    references[0, 1:] = 0  # the parts have different numbers of silent sources
    references[4, 2] = 0
    estimates = references + 0.5 * noise(6, 4, 1, 1500, seed=1)

    def sums(part: slice) -> tuple[Tensor, Tensor]:
        losses = losses_of(ALL, estimates=estimates[part], references=references[part])
        weights = source_weights(references[part], mask_silent=mask_silent)
        return (losses * weights).sum(), weights.sum()

    whole, count = sums(slice(None))
    assert count == (20 if mask_silent else 24)
    parts = [sums(slice(0, 2)), sums(slice(2, 6))]
    total = sum(value for value, _ in parts) / sum(number for _, number in parts)
    torch.testing.assert_close(total, whole / count, rtol=1e-12, atol=0)
