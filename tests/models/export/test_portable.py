import pytest
import torch

from sfisep_core.audio.stft import STFT, STFTConfig
from sfisep_core.models.export.complex_pairs import ComplexPair, ComplexPairs
from sfisep_core.models.export.fixed_layers import FixedConv1d, FixedConvTranspose1d
from sfisep_core.models.export.matrix_stft import MatrixSTFT
from sfisep_core.sfi.analog_filters import ModulatedGaussianFilters
from sfisep_core.sfi.layers import SFIConv1d, SFIConvTranspose1d


@pytest.mark.parametrize("rate", [44100, 22050, 32000, 48000, 44101])
@pytest.mark.parametrize(
    "config",
    [
        STFTConfig(n_fft=512, hop=128),
        STFTConfig(n_fft=256, hop=192, padding="zeros", scale="ortho"),
        STFTConfig(n_fft=512, hop=128, window="rectangular", scale="ortho"),
    ],
    ids=lambda config: f"{config.window} {config.padding}",
)
def test_transform_of_matrices_is_the_transform(config: STFTConfig, rate: int) -> None:
    torch.manual_seed(0)
    signals = torch.randn(2, 3, rate // 10 + 7)
    fast, matrices = STFT(config, 44100), MatrixSTFT(config, 44100)
    spectra = fast.analyze(signals, sample_rate=rate)
    torch.testing.assert_close(
        matrices.analyze(signals, sample_rate=rate),
        spectra,
        rtol=0,
        atol=2e-6 * spectra.abs().max().item(),
    )
    length = signals.shape[-1]
    torch.testing.assert_close(
        matrices.synthesize(spectra, sample_rate=rate, length=length),
        fast.synthesize(spectra, sample_rate=rate, length=length),
        rtol=0,
        atol=1e-5,
    )


@pytest.mark.parametrize("alignment", ["exact", "release"])
@pytest.mark.parametrize("rate", [32000, 44100, 8000, 11025])
def test_fixed_layers_are_the_layers(rate: int, alignment: str) -> None:
    torch.manual_seed(0)
    options = {"design": "frequency", "alignment": alignment}
    encoder = SFIConv1d(1, 12, ModulatedGaussianFilters(12), **options)
    decoder = SFIConvTranspose1d(12, 1, ModulatedGaussianFilters(12), **options)
    signal = torch.randn(3, 1, rate // 8 + 5)
    with torch.no_grad():
        frames = encoder(signal, sample_rate=rate)
        samples = decoder(frames, sample_rate=rate, length=signal.shape[-1])
        torch.testing.assert_close(FixedConv1d(encoder)(signal, sample_rate=rate), frames)
        torch.testing.assert_close(
            FixedConvTranspose1d(decoder)(frames, sample_rate=rate, length=signal.shape[-1]),
            samples,
        )


@pytest.mark.parametrize("size", [8, 9])
def test_pairs_are_complex_numbers(size: int) -> None:
    torch.manual_seed(0)
    values, other = torch.randn(2, size, 3), torch.randn(2, size, 3)
    expected = torch.fft.rfft(values, dim=1, norm="ortho")
    with ComplexPairs():
        pair = torch.fft.rfft(values, dim=1, norm="ortho")
        assert isinstance(pair, ComplexPair)
        back = torch.fft.irfft(pair, n=size, dim=1, norm="ortho")
        product = torch.view_as_real(torch.complex(values, other) * torch.complex(other, values))
        magnitude = torch.complex(values, other).abs()
    torch.testing.assert_close(torch.complex(pair.real, pair.imag), expected)
    torch.testing.assert_close(back, values)
    whole = torch.complex(values, other)
    torch.testing.assert_close(product, torch.view_as_real(whole * torch.complex(other, values)))
    torch.testing.assert_close(magnitude, whole.abs())


def test_what_pairs_cannot_do_has_its_name() -> None:
    with ComplexPairs(), pytest.raises(NotImplementedError, match="cumsum of complex numbers"):
        torch.cumsum(torch.complex(torch.ones(2), torch.ones(2)), dim=0)
