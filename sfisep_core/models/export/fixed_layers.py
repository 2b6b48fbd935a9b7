"""SFI convolutions as the convolutions that ONNX has, with taps that are constants."""

import torch
from torch import Tensor, nn
from torch.nn import functional

from sfisep_core.sfi.frame_grid import FrameGrid
from sfisep_core.sfi.layers import SFIConv1d, SFIConvTranspose1d


class _Fixed(nn.Module):
    """Common part of both: the layer, and its taps at the rates at which it was called.

    Taps are computed by the first call at a rate; calls that are traced find them as constants.

    Args:
        layer: The layer that is replaced.
    """

    def __init__(self, layer: SFIConv1d | SFIConvTranspose1d) -> None:
        super().__init__()
        # Not as a module of this one: the graph needs the taps and not the filters.
        self._layers = (layer,)
        self._taps: dict[int, tuple[Tensor, ...]] = {}

    def grid(self, sample_rate: int) -> FrameGrid:
        """Compute the frame positions at `sample_rate` Hz."""
        return self._layers[0].grid(sample_rate)

    def taps(self, sample_rate: int) -> tuple[Tensor, ...]:
        """Return the sets of taps, each of shape (filter, 1, tap)."""
        if sample_rate not in self._taps:
            with torch.no_grad():
                sets = self._layers[0].taps(sample_rate).unsqueeze(2).unbind()
            self._taps[sample_rate] = tuple(taps.contiguous() for taps in sets)
        return self._taps[sample_rate]


class FixedConv1d(_Fixed):
    """An `SFIConv1d` of one input channel: a strided convolution for each phase of its frames."""

    def forward(self, signal: Tensor, *, sample_rate: int) -> Tensor:
        """Compute frames of a signal; see `SFIConv1d`."""
        grid, taps, length = self.grid(sample_rate), self.taps(sample_rate), signal.shape[-1]
        num_frames = grid.num_frames(length)
        per_phase = -(-num_frames // grid.num_phases)
        span = (per_phase - 1) * grid.period + grid.num_taps
        phases = [
            functional.conv1d(
                functional.pad(signal, (-start, start + span - length)),
                taps[tap_set],
                stride=grid.period,
            )
            for start, tap_set in zip(grid.starts, grid.tap_sets, strict=True)
        ]
        return torch.stack(phases, dim=-1).flatten(-2)[..., :num_frames]


class FixedConvTranspose1d(_Fixed):
    """An `SFIConvTranspose1d` of one output channel: a transposed convolution for each phase."""

    def forward(self, frames: Tensor, *, sample_rate: int, length: int) -> Tensor:
        """Compute samples from frames; see `SFIConvTranspose1d`."""
        grid, taps = self.grid(sample_rate), self.taps(sample_rate)
        parts = []
        for phase, (start, tap_set) in enumerate(zip(grid.starts, grid.tap_sets, strict=True)):
            some = frames[..., phase :: grid.num_phases]
            if some.shape[-1]:
                part = functional.conv_transpose1d(some, taps[tap_set], stride=grid.period)
                parts.append(functional.pad(part, (start, length - start - part.shape[-1])))
        return torch.stack(parts).sum(dim=0)
