"""Normalisation layers of (batch, channel, frame) features, by the span of their statistics."""

from typing import Literal

import torch
from torch import Tensor, nn

from sfisep_core.errors import ConfigError
from sfisep_core.models.blocks.moving_average import moving_average

NormKind = Literal["global", "batch", "frame", "window"]
InputNormKind = Literal["same", "global", "batch", "frame", "window"]

_EPS = 1e-8


class WindowNorm(nn.Module):
    """Normalise every group of channels by its statistics over a bounded window of time.

    Mean and variance at frame m are computed over all channels of the group and the frames
    m - window // 2 .. m + window // 2 (as far as they exist). Like a norm over all time it keeps
    level differences between adjacent frames; unlike it, an output depends on no more than `window`
    frames, however a signal is cut. `window = 1` is a LayerNorm of each frame.

    Args:
        channels: Channels of the input.
        groups: Number of groups of equal size, normalised separately.
        window: Frames, odd.

    Shape:
        - Input and output: (batch, channels, frames)

    >>> WindowNorm(4, groups=1, window=3)(torch.ones(1, 4, 10)).abs().max().item()
    0.0
    """

    def __init__(self, channels: int, *, groups: int, window: int) -> None:
        super().__init__()
        if window < 1 or window % 2 == 0:
            msg = f"norm window: expected an odd number of frames of at least 1, got {window}"
            raise ConfigError(msg)
        self.groups = groups
        self.window = window
        self.weight = nn.Parameter(torch.ones(channels))
        self.bias = nn.Parameter(torch.zeros(channels))

    def forward(self, features: Tensor) -> Tensor:
        """Normalise; see the class."""
        batch, channels, frames = features.shape
        kind = torch.promote_types(features.dtype, torch.float32)  # _EPS underflows in 16 bits
        grouped = features.to(kind).view(batch, self.groups, channels // self.groups, frames)
        normal = normalize_windows(grouped, self.window).view(batch, channels, frames)
        return (normal * self.weight[:, None] + self.bias[:, None]).to(features.dtype)


def normalize_windows(features: Tensor, window: int) -> Tensor:
    """Normalise by the statistics of a window of time around each frame.

    Args:
        features: Shape (batch, group, channel, frames), 32 bits at least.
        window: Frames, odd.

    Returns:
        Same shape.
    """
    mean = moving_average(features.mean(dim=2), window)
    power = moving_average(features.square().mean(dim=2), window)
    scale = torch.rsqrt((power - mean.square()).clamp_min(0.0) + _EPS)
    return (features - mean.unsqueeze(2)) * scale.unsqueeze(2)


class GlobalNorm(nn.GroupNorm):
    """GroupNorm over all time that computes with at least 32 bits: _EPS underflows in 16."""

    def forward(self, features: Tensor) -> Tensor:
        """Normalise; see `torch.nn.GroupNorm`."""
        kind = torch.promote_types(features.dtype, torch.float32)
        with torch.autocast(features.device.type, enabled=False):
            return super().forward(features.to(kind)).to(features.dtype)


def make_norm(
    kind: NormKind, channels: int, *, networks: int, norm_groups: int, window: int
) -> nn.Module:
    """Build a norm for `networks` independent networks whose channels are stacked.

    Args:
        kind: "global": GroupNorm over all time (published); the result depends on how a signal is
            cut. "batch": BatchNorm with running statistics. "frame": LayerNorm of each frame.
            "window": statistics over a bounded window of time.
        channels: Total number of channels of all networks.
        networks: Number of networks; statistics are never computed across them.
        norm_groups: Groups of channels within a network ("global" only; 8 as published).
        window: Frames ("window" only).

    Returns:
        A module from (batch, channels, frames) to the same shape.

    Raises:
        ConfigError: The channels cannot be split this way, or the window is not odd.
    """
    if kind == "global":
        if norm_groups < 1 or channels % (networks * norm_groups):
            msg = (
                f"global norm: {channels // networks} channels of a network cannot be split into "
                f"norm_groups = {norm_groups} equal groups"
            )
            raise ConfigError(msg)
        return GlobalNorm(networks * norm_groups, channels, eps=_EPS)
    if kind == "batch":
        return nn.BatchNorm1d(channels)
    return WindowNorm(channels, groups=networks, window=1 if kind == "frame" else window)
