"""The settings of SCNet's network, and the bands into which it cuts spectra."""

import math
from dataclasses import dataclass
from itertools import accumulate, pairwise
from typing import Annotated

from sfisep_core.config_values import CheckedConfig, Range
from sfisep_core.errors import ConfigError


@dataclass(frozen=True)
class SCNetNetworkConfig(CheckedConfig):
    """Size of the network; the defaults are the published ones.

    Attributes:
        channels: Output channels of the encoder blocks, from the outermost on.
        band_shares: Shares of the bins that each band but the last one has, from 0 Hz on.
        kernel_sizes: Bins of the convolution of each band, at least its stride.
        strides: Stride of this convolution along bins, for each band: by what factor every encoder
            block shortens it.
        depths: Residual blocks along frames, for each band.
        compression: By what factor residual blocks have fewer channels inside.
        num_layers: Dual-path layers; after every other one frames are transformed back.
        expansion: Hidden features of an LSTM, for one feature of its input.

    Raises:
        ConfigError: A size does not fit another.
    """

    section = "model setting network."

    channels: tuple[Annotated[int, Range(1, 4096)], ...] = (32, 64, 128)
    band_shares: tuple[Annotated[float, Range(0, 1, above_low=True)], ...] = (0.175, 0.392)
    kernel_sizes: tuple[Annotated[int, Range(1, 1024)], ...] = (3, 4, 16)
    strides: tuple[Annotated[int, Range(1, 1024)], ...] = (1, 4, 16)
    depths: tuple[Annotated[int, Range(0, 64)], ...] = (3, 2, 1)
    compression: Annotated[int, Range(1, 4096)] = 4
    num_layers: Annotated[int, Range(2, 64, parity="even")] = 6
    expansion: Annotated[int, Range(1, 64)] = 1

    def __post_init__(self) -> None:
        """Check values, and what does not go together."""
        super().__post_init__()
        bands = len(self.band_shares) + 1
        for name in ("kernel_sizes", "strides", "depths"):
            if len(getattr(self, name)) != bands:
                msg = (
                    f"{self.section}{name}: expected {bands} values, one for each band (one more "
                    f"than band_shares), got {len(getattr(self, name))}"
                )
                raise ConfigError(msg)
        for kernel_size, stride in zip(self.kernel_sizes, self.strides, strict=True):
            if kernel_size < stride:
                msg = (
                    f"{self.section}kernel_sizes: expected each at least as long as its stride, "
                    f"got {kernel_size} for a stride of {stride}"
                )
                raise ConfigError(msg)
        if sum(self.band_shares) >= 1:
            msg = f"{self.section}band_shares: expected a sum below 1, got {sum(self.band_shares)}"
            raise ConfigError(msg)
        if not self.channels or min(self.channels) < self.compression:
            msg = (
                f"{self.section}channels: expected one or more sizes, each at least compression = "
                f"{self.compression}, got {list(self.channels)}"
            )
            raise ConfigError(msg)


@dataclass(frozen=True)
class BandPlan:
    """How an encoder block cuts its bins into bands.

    Attributes:
        bins: Of each band.
        compressed: Bins of each band behind its convolution.
        paddings: Zeros before and behind each band.
    """

    bins: tuple[int, ...]
    compressed: tuple[int, ...]
    paddings: tuple[tuple[int, int], ...]


def plan_bands(config: SCNetNetworkConfig, num_bins: int) -> list[BandPlan]:
    """Plan the bands of all encoder blocks.

    Args:
        config: Settings.
        num_bins: Bins of the first block.

    Raises:
        ConfigError: There are so few bins that a band would be empty.
    """
    plans: list[BandPlan] = []
    given = num_bins
    for _ in config.channels:
        inner = [math.ceil(num_bins * share) for share in accumulate(config.band_shares)]
        bins = tuple(end - begin for begin, end in pairwise((0, *inner, num_bins)))
        if min(bins) < 1:
            msg = (
                f"SCNet: expected bins for {len(bins)} bands in each of {len(config.channels)} "
                f"encoder blocks, got {given} bins, of which block {len(plans) + 1} has "
                f"{num_bins}: take a larger stft.n_fft"
            )
            raise ConfigError(msg)
        steps = list(zip(bins, config.kernel_sizes, config.strides, strict=True))
        missing = [k - s if s == 1 else -size % s for size, k, s in steps]
        paddings = tuple((total // 2, total - total // 2) for total in missing)
        compressed = tuple(
            max(0, size + total - k) // s + 1
            for (size, k, s), total in zip(steps, missing, strict=True)
        )
        plans.append(BandPlan(bins, compressed, paddings))
        num_bins = sum(compressed)
    return plans
