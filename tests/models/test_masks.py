import pytest
import torch

from sfisep_core.models.blocks.masks import mask_spectra, ratio_mask


def values(*shape: int) -> torch.Tensor:
    return torch.rand(*shape, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("dim", [1, -1, 0])
@pytest.mark.parametrize("level", [1e-30, 1e-6, 1.0, 4e15, 1e37])
def test_shares_sum_to_one_at_every_level(dim: int, level: float) -> None:
    shares = ratio_mask(level * values(2, 4, 3, 5), dim=dim)
    assert shares.dtype == torch.float32
    torch.testing.assert_close(shares.sum(dim=dim), torch.ones_like(shares.sum(dim=dim)))
    assert (shares >= 0).all()


def test_shares_are_proportional() -> None:
    shares = ratio_mask(4e15 * torch.tensor([[1.0, 3.0, 0.0]]))
    torch.testing.assert_close(shares, torch.tensor([[0.25, 0.75, 0.0]]))
    shares = ratio_mask(torch.tensor([[1.0, 3.0, 0.0]]), eps=1.0)
    torch.testing.assert_close(shares, torch.tensor([[2.0, 4.0, 1.0]]) / 7)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_silence_is_shared_equally(dtype: torch.dtype) -> None:
    shares = ratio_mask(torch.zeros(2, 5, 3, dtype=dtype))
    assert shares.dtype == (torch.float64 if dtype == torch.float64 else torch.float32)
    torch.testing.assert_close(shares.double(), torch.full((2, 5, 3), 0.2, dtype=torch.float64))


def test_autocast_does_not_round() -> None:
    given = values(2, 4, 100)
    expected = ratio_mask(given)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(ratio_mask(given), expected)
        half = ratio_mask(given.bfloat16())
    assert half.dtype == torch.float32
    assert torch.equal(half, ratio_mask(given.bfloat16().float()))


@pytest.mark.parametrize("level", [0.0, 1e-30, 1.0, 4e15])
def test_gradients_are_finite(level: float) -> None:
    given = (level * values(2, 4, 3)).requires_grad_()
    weights = torch.arange(4.0)[:, None]
    (ratio_mask(given, eps=1e-11) * weights).sum().backward()
    assert given.grad is not None
    assert torch.isfinite(given.grad).all()
    assert given.grad.any()


def test_gradients_are_right() -> None:
    given = values(2, 4, 3).double().requires_grad_()
    assert torch.autograd.gradcheck(ratio_mask, given)


@pytest.mark.parametrize("dtype", [torch.complex64, torch.complex128])
def test_masked_spectra_are_products(dtype: torch.dtype) -> None:
    masks = values(2, 3, 2, 7, 5).transpose(-1, -2)
    spectra = torch.complex(values(2, 2, 5, 7), -values(2, 2, 5, 7)).to(dtype)
    assert torch.equal(mask_spectra(masks, spectra), masks * spectra.unsqueeze(1))


@pytest.mark.parametrize("with_gradients", [True, False])
def test_one_mask_for_all_bins_above(with_gradients: bool) -> None:
    masks, above = values(2, 3, 2, 7, 4), values(2, 3, 2, 7, 1)
    spectra = torch.complex(values(2, 2, 5, 7), -values(2, 2, 5, 7)).transpose(-1, -2)
    joined = torch.cat([masks, above], dim=-1)
    with torch.set_grad_enabled(with_gradients):
        assert torch.equal(mask_spectra(masks, spectra, above=above), joined * spectra.unsqueeze(1))
        assert torch.equal(mask_spectra(joined, spectra, above=above), joined * spectra[:, None])
        # One mask for both channels.
        shared = mask_spectra(masks[:, :, :1], spectra, above=above[:, :, :1])
        assert torch.equal(shared, joined[:, :, :1] * spectra[:, None])


def test_gradients_reach_the_masks() -> None:
    masks = values(1, 2, 1, 3, 4).double().requires_grad_()
    spectra = torch.complex(values(1, 1, 3, 4), values(1, 1, 3, 4)).to(torch.complex128)
    assert torch.autograd.gradcheck(lambda m: mask_spectra(m, spectra), masks)
