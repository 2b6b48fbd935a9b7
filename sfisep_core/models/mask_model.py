"""The structure of separators that mask a latent: analysis, masker, synthesis."""

from abc import abstractmethod

import torch
from torch import Tensor, nn

from sfisep_core.models.blocks.consistency import share_residual
from sfisep_core.models.contract import SeparationModel


class MaskModel(SeparationModel):
    """A separator that masks the latent of its analysis; channels are separated independently.

    A family sets `masker` and defines `analyze` and `synthesize`; it may define `refine`.

    Attributes:
        masker: From a latent (signal, feature, frames) to masks (signal, stage * source, feature,
            frames); see `refine` for stages.
        contiguous_latent: Whether the frames of a feature are adjacent in memory, the layout in
            which convolutions are fast. A masker for inference may set it to False.
        one_by_one: Whether, on CPUs and without gradients, signals are separated one after the
            other, because the latent of each takes much memory.
    """

    masker: nn.Module
    contiguous_latent: bool = True
    one_by_one: bool = False

    def forward(self, mixture: Tensor, *, sample_rate: int) -> Tensor:
        """Separate a mixture; see `SeparationModel.forward`."""
        self.check_rate(sample_rate)
        batch, channels, length = mixture.shape
        if mixture.numel() == 0:
            return mixture.new_zeros(batch, len(self.sources), channels, length)
        signals = mixture.reshape(batch * channels, 1, length)
        if self.one_by_one and mixture.device.type == "cpu" and not torch.is_grad_enabled():
            parts = [self.separate_signals(part, sample_rate) for part in torch.split(signals, 1)]
            stems = torch.cat(parts)
        else:
            stems = self.separate_signals(signals, sample_rate)
        return stems.view(batch, channels, -1, length).transpose(1, 2)  # (B, stage S, C, T)

    def separate_signals(self, signals: Tensor, sample_rate: int) -> Tensor:
        """Separate signals of one channel.

        Args:
            signals: Shape (signal, 1, time), one sample or more.
            sample_rate: Hz.

        Returns:
            Stems, shape (signal, stage * source, time).
        """
        # Analysis and synthesis use 32-bit numbers even where the masker computes with 16 bits.
        with torch.autocast(signals.device.type, enabled=False):
            latent = self.analyze(signals, sample_rate)  # (B, N, frames)
        masks: Tensor = self.masker(latent)  # (B, stage S, N, frames)
        with torch.autocast(signals.device.type, enabled=False):
            stems = self.synthesize(latent, masks, sample_rate, signals.shape[-1])
        del latent, masks  # the largest tensors of all
        stems = self.refine(stems, signals[:, 0])
        if self.gain_rule != "mixture-consistent":
            return stems
        with torch.autocast(signals.device.type, enabled=False):
            earlier, last = stems.tensor_split([-len(self.sources)], dim=1)
            last = share_residual(last.unsqueeze(2), signals, sample_rate=sample_rate).squeeze(2)
            return torch.cat([earlier, last], dim=1) if earlier.shape[1] else last

    def check_rate(self, sample_rate: int) -> None:
        """Check that the family can work at a rate; every rate passes unless overridden.

        Args:
            sample_rate: Hz.

        Raises:
            ConfigError: The family cannot work at this rate.
        """

    @abstractmethod
    def analyze(self, signals: Tensor, sample_rate: int) -> Tensor:
        """Compute the latent.

        Args:
            signals: Shape (signal, 1, time), one sample or more.
            sample_rate: Hz.

        Returns:
            Latent, shape (signal, feature, frames).
        """

    @abstractmethod
    def synthesize(self, latent: Tensor, masks: Tensor, sample_rate: int, length: int) -> Tensor:
        """Compute the samples of the masked latent.

        Args:
            latent: Output of `analyze`.
            masks: Shape (signal, stage * source, feature, frames); without gradients they may be
                overwritten.
            sample_rate: Hz.
            length: Number of samples of the signals.

        Returns:
            Estimates, shape (signal, stage * source, time).
        """

    def refine(self, estimates: Tensor, mixture: Tensor) -> Tensor:
        """Post-process the estimates; does nothing unless overridden.

        Args:
            estimates: Shape (signal, stage * source, time), one sample or more; one stage, except
                while training a model with `stage_rates`.
            mixture: Shape (signal, time).

        Returns:
            Shape (signal, stage * source, time), with one stage more after the `stage_rates`.
        """
        del mixture
        return estimates

    def compile_network(self, *, dynamic: bool | None = None) -> None:
        """Compile the masker in place: its frame rate does not depend on the sampling frequency."""
        self.masker.compile(dynamic=dynamic)
