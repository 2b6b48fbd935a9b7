import math

import pytest
import torch
from torch import Tensor

from sfisep_core.errors import ConfigError
from sfisep_core.training.losses import LossKind, loss_function, si_sdr_loss, soft_snr_loss

SAMPLES = 4800


def tone(periods: int, *, energy: float = 1.0) -> Tensor:
    """Give a tone of whole periods: orthogonal to every other one."""
    phase = 2 * math.pi * periods * torch.arange(SAMPLES, dtype=torch.float64) / SAMPLES
    return torch.sin(phase) * math.sqrt(2 * energy / SAMPLES)


def batch(*signals: Tensor) -> Tensor:
    """Give one mono example, shape (1, source, 1, time)."""
    return torch.stack(signals)[None, :, None]


SILENCE = torch.zeros(SAMPLES, dtype=torch.float64)


@pytest.mark.parametrize("ratio_db", [-12.0, 0.0, 30.0])
def test_snr_of_a_known_noise_ratio(ratio_db: float) -> None:
    references = batch(tone(1), tone(2, energy=4.0))
    noise = batch(tone(7), tone(8, energy=4.0)) * 10 ** (-ratio_db / 20)
    loss = soft_snr_loss(estimates=references + noise, references=references, floor_db=-200)
    assert loss.item() == pytest.approx(-ratio_db, abs=1e-6)


def test_snr_is_averaged_over_sources_and_batch() -> None:
    first = batch(tone(1), tone(2))
    second = batch(tone(3), tone(4))
    references = torch.cat([first, second])
    noise = torch.cat([batch(0.1 * tone(7), tone(8)), batch(0.01 * tone(7), 10 * tone(8))])
    loss = soft_snr_loss(estimates=references + noise, references=references, floor_db=-200)
    assert loss.item() == pytest.approx(-(20 + 0 + 40 - 20) / 4, abs=1e-6)


def test_snr_counts_channels_together() -> None:
    references = torch.stack([tone(1), tone(2)])[None, None]  # one source, two channels
    estimates = references + torch.stack([tone(3, energy=0.02), SILENCE])
    loss = soft_snr_loss(estimates=estimates, references=references, floor_db=-200)
    assert loss.item() == pytest.approx(-20, abs=1e-6)


@pytest.mark.parametrize("floor_db", [-30.0, -10.0])
def test_snr_floor_bounds_what_is_worth_reaching(floor_db: float) -> None:
    # Two sources of energy 1, so the mixture has 2 and the floor is 2 f.
    references = batch(tone(1), tone(2))
    floor = 2 * 10 ** (floor_db / 10)
    perfect = soft_snr_loss(estimates=references, references=references, floor_db=floor_db)
    assert perfect.item() == pytest.approx(10 * math.log10(floor / (1 + floor)), abs=1e-6)


def test_snr_of_a_silent_source() -> None:
    references = batch(tone(1), SILENCE)
    floor = 1e-3
    quiet = soft_snr_loss(estimates=references, references=references, floor_db=-30)
    active = 10 * math.log10(floor / (1 + floor))
    assert quiet.item() == pytest.approx(active / 2, abs=1e-6)  # the silent one costs 0 dB
    error = batch(SILENCE, tone(5, energy=0.1))
    loud = soft_snr_loss(estimates=references + error, references=references, floor_db=-30)
    expected = (active + 10 * math.log10((0.1 + floor) / floor)) / 2
    assert loud.item() == pytest.approx(expected, abs=1e-6)


def test_snr_can_mask_silent_sources() -> None:
    references = batch(tone(1), SILENCE, tone(2, energy=0.9e-6))
    estimates = references + batch(tone(7, energy=0.01), tone(8), tone(9))
    loss = soft_snr_loss(
        estimates=estimates, references=references, floor_db=-200, mask_silent=True
    )
    assert loss.item() == pytest.approx(-20, abs=1e-6)


def test_si_sdr_of_a_known_noise_ratio() -> None:
    references = batch(tone(1), tone(2))
    noise = batch(tone(7, energy=0.1), tone(8, energy=0.001))
    loss = si_sdr_loss(estimates=references + noise, references=references)
    assert loss.item() == pytest.approx(-(10 + 30) / 2, abs=1e-6)


@pytest.mark.parametrize("scale", [1e-3, 7.0, -1.0])
def test_si_sdr_does_not_see_scale(scale: float) -> None:
    references = batch(tone(1), tone(2))
    estimates = references + batch(tone(7, energy=0.1), tone(8, energy=0.001))
    loss = si_sdr_loss(estimates=scale * estimates, references=references)
    assert loss.item() == pytest.approx(-20, abs=1e-6)
    assert soft_snr_loss(
        estimates=scale * estimates, references=references, floor_db=-200
    ).item() != pytest.approx(-20, abs=1)


def test_si_sdr_of_an_orthogonal_estimate_is_as_bad_as_can_be() -> None:
    references, estimates = batch(tone(1)), batch(tone(2))
    loss = si_sdr_loss(estimates=estimates, references=references)
    eps = torch.finfo(torch.float64).eps
    assert loss.item() == pytest.approx(-10 * math.log10(eps), abs=0.1)


def test_si_sdr_masks_silent_sources() -> None:
    references = batch(tone(1), SILENCE, tone(2, energy=0.9e-6))
    estimates = references + batch(tone(7, energy=0.01), tone(8), tone(9))
    loss = si_sdr_loss(estimates=estimates, references=references)
    assert loss.item() == pytest.approx(-20, abs=1e-6)


@pytest.mark.parametrize("kind", ["snr", "si-sdr"])
@pytest.mark.parametrize(
    ("reference", "estimate"),
    [
        ("silence", "silence"),
        ("silence", "noise"),
        ("silence", "faint"),
        ("noise", "silence"),
        ("noise", "noise"),
        ("faint", "silence"),
    ],
)
def test_gradients_stay_finite(kind: LossKind, reference: str, estimate: str) -> None:
    noise = torch.randn(2, 4, 1, 1000, generator=torch.Generator().manual_seed(0))
    signals = {"silence": torch.zeros_like(noise), "noise": noise, "faint": 1e-18 * noise}
    estimates = signals[estimate].clone().requires_grad_()
    loss = loss_function(kind, estimates=estimates, references=signals[reference], floor_db=-30)
    loss.backward()  # type: ignore[no-untyped-call]
    assert torch.isfinite(loss)
    assert estimates.grad is not None
    assert torch.isfinite(estimates.grad).all()


@pytest.mark.parametrize("kind", ["snr", "si-sdr"])
def test_descent_goes_towards_the_reference(kind: LossKind) -> None:
    references = batch(tone(1), tone(2))
    estimates = (references + batch(tone(7), tone(8))).requires_grad_()
    loss = loss_function(kind, estimates=estimates, references=references, floor_db=-200)
    loss.backward()  # type: ignore[no-untyped-call]
    assert estimates.grad is not None
    # d/d|n| of 10 log10 |n|^2 is 20 / ln 10 / |n|; a source counts by half, and |n| is 1.
    slope = (estimates.grad * batch(tone(7), tone(8))).sum(dim=(-2, -1))
    assert slope.flatten().tolist() == pytest.approx([10 / math.log(10)] * 2, rel=1e-6)


def test_losses_by_name() -> None:
    references = batch(tone(1), tone(2))
    estimates = 0.5 * references + batch(tone(7), tone(8))
    snr = soft_snr_loss(estimates=estimates, references=references, floor_db=-20)
    si_sdr = si_sdr_loss(estimates=estimates, references=references)
    for kind, expected in (("snr", snr), ("si-sdr", si_sdr)):
        loss = loss_function(
            kind,  # type: ignore[arg-type]
            estimates=estimates,
            references=references,
            floor_db=-20,
        )
        assert torch.equal(loss, expected)
    with pytest.raises(ConfigError, match=r"^loss 'l1': unknown; expected snr or si-sdr$"):
        loss_function("l1", estimates=estimates, references=references, floor_db=-20)  # type: ignore[arg-type]


def test_silent_sources_are_left_out_of_the_snr_on_request() -> None:
    references = batch(tone(1), torch.zeros_like(tone(1)))
    estimates = references + 0.1 * batch(tone(7), tone(8))
    masked = loss_function(
        "snr", estimates=estimates, references=references, floor_db=-200, mask_silent=True
    )
    assert masked.item() == pytest.approx(-20, abs=1e-4)
    plain = loss_function("snr", estimates=estimates, references=references, floor_db=-30)
    assert plain.item() > masked.item() + 5
