"""Operations between two matrix products of a fused network: norms as factors, and buffers."""

import torch
from torch import Tensor, nn
from torch.nn import functional

from sfisep_core.models.blocks.norms import GlobalNorm, WindowNorm


class Scratch:
    """Reusable buffers for temporary blocks: allocating costs more than filling them."""

    def __init__(self) -> None:
        self._found: dict[tuple[str, torch.dtype], Tensor] = {}

    def __call__(self, purpose: str, shape: torch.Size, kind: torch.dtype) -> Tensor:
        """Return a buffer that is used for this purpose only."""
        size, memory = shape.numel(), self._found.get((purpose, kind))
        if memory is None or memory.numel() < size:
            memory = self._found[purpose, kind] = torch.empty(size, dtype=kind)
        return memory[:size].view(shape)


class Sums:
    """Sums and sums of squares of every channel over time."""

    def __init__(self, scratch: Scratch) -> None:
        self._blocks: list[Tensor] = []
        self.scratch = scratch

    def add(self, block: Tensor) -> None:
        """Add a block of shape (frame, channel)."""
        squares = self.scratch("squares", block.shape, block.dtype)
        self._blocks += [block.sum(0), torch.mul(block, block, out=squares).sum(0)]

    def moments(self, groups: int, frames: int) -> tuple[Tensor, Tensor]:
        """Compute mean and mean square of every group of channels, in float64."""
        blocks = torch.stack(self._blocks).double()
        mean, power = blocks.view(len(blocks) // 2, 2, groups, -1).sum(0).mean(2) / frames
        return mean, power


class FoldedNorm:
    """The norm of one of several networks, as one factor and one offset per channel.

    Args:
        norm: The norm of all networks: a `GlobalNorm`, a batch norm, or a `WindowNorm` whose input
            is already normalised.
        network: Index of the network.
        networks: Number of networks.
    """

    def __init__(self, norm: nn.Module, network: int, networks: int) -> None:
        assert isinstance(norm, GlobalNorm | nn.BatchNorm1d | WindowNorm)
        self._weight = norm.weight.chunk(networks)[network].double()
        self._bias = norm.bias.chunk(networks)[network].double()
        self.channels = len(self._weight)
        self.needs_sums = isinstance(norm, GlobalNorm)
        self._fixed = self._weight, self._bias
        if isinstance(norm, GlobalNorm):
            self._groups, self._eps = norm.num_groups // networks, norm.eps
        elif isinstance(norm, nn.BatchNorm1d):
            assert norm.running_mean is not None
            assert norm.running_var is not None
            mean = norm.running_mean.chunk(networks)[network].double()
            variance = norm.running_var.chunk(networks)[network].double()
            factor = self._weight * torch.rsqrt(variance + norm.eps)
            self._fixed = factor, self._bias - factor * mean

    def affine(self, sums: Sums, frames: int) -> tuple[Tensor, Tensor]:
        """Compute factor and offset, shape (channel,) each, in float64."""
        if not self.needs_sums:
            return self._fixed
        mean, power = sums.moments(self._groups, frames)
        scale = torch.rsqrt((power - mean.square()).clamp_min(0.0) + self._eps)
        factor = self._weight.view(self._groups, -1) * scale[:, None]
        offset = self._bias.view(self._groups, -1) - factor * mean[:, None]
        return factor.flatten(), offset.flatten()


def multiply_add(
    features: Tensor, weight: Tensor, bias: Tensor, result: Tensor, scratch: Scratch
) -> None:
    """Compute features @ weight + bias into `result`, which is float32."""
    if features.dtype == result.dtype:
        torch.mm(features, weight, out=result)
    else:  # converted by a copy: an addition of two dtypes would allocate a converted tensor first
        product = scratch("product", result.shape, features.dtype)
        result.copy_(torch.mm(features, weight, out=product))
    result.add_(bias)


def activate(block: Tensor, slope: float, norm: FoldedNorm, sums: Sums) -> None:
    """Apply a PReLU in place, and update the sums that the next norm needs."""
    wide = block.float() if norm.needs_sums else block  # float32 is not copied
    functional.leaky_relu_(wide, slope)
    if norm.needs_sums:
        sums.add(wide)
        if wide is not block:
            block.copy_(wide)
