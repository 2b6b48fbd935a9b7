"""Make of a model what can be written to ONNX: samples in, stems out, no complex numbers."""

import copy

import torch
from torch import Tensor, nn

from sfisep_core.audio.resample import sinc_fits
from sfisep_core.audio.stft import STFT
from sfisep_core.errors import ConfigError
from sfisep_core.models.blocks.restorer import Restorer
from sfisep_core.models.contract import SeparationModel
from sfisep_core.models.export.complex_pairs import ComplexPairs
from sfisep_core.models.export.fixed_layers import FixedConv1d, FixedConvTranspose1d
from sfisep_core.models.export.matrix_stft import MatrixSTFT
from sfisep_core.models.hdemucs import HDemucs
from sfisep_core.models.mask_model import MaskModel
from sfisep_core.models.super_resolved import SuperResolvedSeparator
from sfisep_core.sfi.layers import SFIConv1d, SFIConvTranspose1d


class SegmentNetwork(nn.Module):
    """A model for one segment at one sampling frequency, its normalisation of the level included.

    Args:
        model: The model, in evaluation mode.
        sample_rate: Hz.

    Shape:
        - Input: (channel, time)
        - Output: (source, channel, time)
    """

    def __init__(self, model: SeparationModel, sample_rate: int) -> None:
        super().__init__()
        self.model, self._sample_rate = model, sample_rate

    def forward(self, mixture: Tensor) -> Tensor:
        """Separate a segment; see the class."""
        if not self.model.normalizes_level:
            return self._separate(mixture)
        deviation = mixture.std(dim=-1, keepdim=True)
        level = torch.where(deviation > 0, deviation, 1.0)
        return self._separate(mixture / level) * level

    def _separate(self, mixture: Tensor) -> Tensor:
        stems: Tensor = self.model(mixture.unsqueeze(0), sample_rate=self._sample_rate)[0]
        return stems


class PortableNetwork(SegmentNetwork):
    """A `SegmentNetwork` of operations that ONNX has, on a copy of the model.

    Call it once before it is traced: the first call computes the constants.
    """

    def __init__(self, model: SeparationModel, sample_rate: int) -> None:
        super().__init__(_portable(model), sample_rate)

    def forward(self, mixture: Tensor) -> Tensor:
        """Separate a segment; see `SegmentNetwork`."""
        with ComplexPairs():
            return super().forward(mixture)


# Common sampling frequencies have up to 16. 400, at 7999 Hz, take more than ten minutes.
_MOST_PHASES = 64


def check_portable(model: SeparationModel, sample_rate: int) -> None:
    """Check that nothing of a model is known to be missing in ONNX.

    Args:
        model: The model.
        sample_rate: Hz, at which it is to work.

    Raises:
        ConfigError: Something is.
    """
    rates: dict[nn.Module, int] = {}
    for part in model.modules():
        if isinstance(part, SuperResolvedSeparator):  # what is in it works at a rate of its own
            rates |= dict.fromkeys(part.separator.modules(), part.config.low_rate)
        reason = _what_is_missing(part, rates.get(part, sample_rate))
        if reason is not None:
            msg = (
                f"{model.family} model: cannot be exported: {reason}: choose another model or rate"
            )
            raise ConfigError(msg)


def _what_is_missing(part: nn.Module, sample_rate: int) -> str | None:
    """Say what ONNX lacks of a part of a model; None = nothing."""
    if isinstance(part, HDemucs):
        return "the transforms within torchaudio's network have no counterpart in ONNX"
    if isinstance(part, SuperResolvedSeparator):
        low_rate = part.config.low_rate
        if part.separator.gain_rule == "least-squares":
            return "its separator's gains are solutions of equations, which ONNX cannot solve"
        if not sinc_fits(orig_rate=sample_rate, target_rate=low_rate):
            return (
                f"{sample_rate} and {low_rate} Hz have so small a common divisor that soxr "
                "resamples, which is no part of a network"
            )
    if isinstance(part, SFIConv1d | SFIConvTranspose1d):
        phases = part.grid(sample_rate).num_phases
        if phases > _MOST_PHASES:
            return (
                f"at {sample_rate} Hz its frames start at {phases} places between samples, each of "
                f"which would be a convolution, expected at most {_MOST_PHASES}"
            )
    return None


def _portable(model: SeparationModel) -> SeparationModel:
    """Copy a model, and replace what ONNX lacks in the copy."""
    model = copy.deepcopy(model).eval().requires_grad_(requires_grad=False)
    for part in list(model.modules()):
        stft = getattr(part, "stft", None)
        if isinstance(stft, STFT):
            part.stft = MatrixSTFT(stft.config, stft.native_rate)  # type: ignore[assignment]
        if isinstance(part, Restorer):
            part.transform = MatrixSTFT
        if isinstance(part, MaskModel):
            part.one_by_one = False
        for name, layer in list(part.named_children()):
            if isinstance(layer, SFIConv1d):
                setattr(part, name, FixedConv1d(layer))
            elif isinstance(layer, SFIConvTranspose1d):
                setattr(part, name, FixedConvTranspose1d(layer))
    return model
