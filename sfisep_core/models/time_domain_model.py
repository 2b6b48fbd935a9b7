"""Common part of families with learned filters: masks between an encoder and a decoder."""

from dataclasses import dataclass
from typing import Annotated

import torch
from torch import Tensor, nn
from torch.nn import functional

from sfisep_core.config_values import Range, SampleRate
from sfisep_core.models.contract import FamilyConfig
from sfisep_core.models.mask_model import MaskModel


@dataclass(frozen=True)
class TimeDomainConfig(FamilyConfig):
    """Settings that all families with learned filters share; each family adds its own.

    Attributes:
        native_rate: Hz, the sampling frequency of training, the only one at which filters work.
        num_filters: Number of learned filters of the encoder, and of the decoder <N>.
        kernel_size: Length of a filter in samples <L>; the stride is half of that, rounded down.
    """

    native_rate: SampleRate = 8000
    num_filters: Annotated[int, Range(1, 4096)] = 512
    kernel_size: Annotated[int, Range(2, 8192)] = 16
    normalizes_level: bool = True

    @property
    def stride(self) -> int:
        """Samples from one frame to the next."""
        return self.kernel_size // 2

    @property
    def values_per_second(self) -> float:
        """Values of the latent; see `FamilyConfig.values_per_second`."""
        return self.num_filters * self.native_rate / self.stride


class TimeDomainModel(MaskModel):
    """A separator that masks the latent of learned filters; channels are independent.

    Args:
        config: Settings.
        masker: From a latent (batch, filter, frames) to masks (batch, stage * source, filter,
            frames); see `MaskModel.refine`.
        padded: Whether zeros surround the signal so that all samples are in two frames. Otherwise
            frames lie within it, and samples after the last frame are zero in the output.
        rectified: Whether a ReLU makes the latent non-negative.
        chunk_invariant: Whether segments with this context give the same stems as the whole signal.
    """

    def __init__(
        self,
        config: TimeDomainConfig,
        masker: nn.Module,
        *,
        padded: bool,
        rectified: bool,
        chunk_invariant: bool,
    ) -> None:
        super().__init__()
        self.configure(config, chunk_invariant=chunk_invariant)
        size, stride = config.kernel_size, config.stride
        self.encoder = nn.Conv1d(1, config.num_filters, size, stride, bias=False)
        self.masker = masker
        self.decoder = nn.ConvTranspose1d(config.num_filters, 1, size, stride, bias=False)
        self._stride = stride
        self._padded = padded
        self._rectified = rectified

    def check_rate(self, sample_rate: int) -> None:
        """Check that a rate is the native one; see `MaskModel.check_rate`."""
        self.require_native_rate(sample_rate)

    def analyze(self, signals: Tensor, sample_rate: int) -> Tensor:
        """Compute the latent of the filters; see `MaskModel.analyze`."""
        del sample_rate
        return self.encode(signals)

    def synthesize(self, latent: Tensor, masks: Tensor, sample_rate: int, length: int) -> Tensor:
        """Mask the latent and compute its samples; see `MaskModel.synthesize`."""
        del sample_rate
        masked = masks.to(latent.dtype) * latent.unsqueeze(1)
        estimates = self.decode(masked.flatten(0, 1), length=length)
        return estimates.view(len(latent), -1, length)

    def encode(self, signals: Tensor) -> Tensor:
        """Compute the latent of the filters.

        Args:
            signals: Shape (batch, 1, time), one sample or more.

        Returns:
            Latent, shape (batch, filter, frames).
        """
        length, stride, size = signals.shape[-1], self._stride, self.config.kernel_size
        if self._padded:
            # A filter of odd length is centred on a sample: the last one ends a stride after it.
            margins = (stride, stride + (size % 2 - length) % stride)
        else:
            margins = (0, max(0, size - length))
        latent: Tensor = self.encoder(functional.pad(signals, margins))
        return torch.relu(latent) if self._rectified else latent

    def decode(self, latent: Tensor, *, length: int) -> Tensor:
        """Compute samples from a latent of `encode`.

        Args:
            latent: Shape (batch, filter, frames).
            length: Number of samples of the signal that was encoded.

        Returns:
            Signals, shape (batch, 1, length).
        """
        signals: Tensor = self.decoder(latent)
        before = self._stride if self._padded else 0
        return functional.pad(signals, (-before, before + length - signals.shape[-1]))

    def chunk_alignment(self, sample_rate: int) -> int:
        """Compute the number of samples after which the frame positions repeat."""
        del sample_rate
        return self._stride
