"""U-Nets of TFC, TDC and TDF blocks on spectra whose real and imaginary parts are channels.

Source: Choi et al., ISMIR 2020; Choi et al., "LaSAFT", ICASSP 2021 (conditioned ones).
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from itertools import accumulate
from typing import Annotated, Literal

import torch
from torch import Tensor, nn

from sfisep_core.config_values import CheckedConfig, Range
from sfisep_core.errors import ConfigError
from sfisep_core.models.blocks.conditioning import (
    DenseControl,
    GeneratedNorm,
    film,
    gated_pocm,
    pocm,
)
from sfisep_core.models.blocks.saft import LaSAFT, LightSAFT
from sfisep_core.models.blocks.tfc_tdf import TDF, TFC, Level
from sfisep_core.models.blocks.unet import Condition, UNet

Modulation = Literal["none", "film", "film-simple", "pocm", "gpocm"]


@dataclass(frozen=True)
class TFCUNetConfig(CheckedConfig):
    """Structure and size of the network; the defaults are the small TFC-TDF U-Net's.

    Attributes:
        num_blocks: Number of blocks: encoders, one in the middle, and as many decoders.
        channels: Channels of all blocks.
        transform: Transform of a block. "tfc": convolutions over time and frequency. "tdc":
            convolutions over frequency, frame by frame. "tdf": dense layers over frequency, frame
            by frame.
        across: Transform over all frequencies that is added in each block, for "tfc" blocks.
            "tdf": dense layers. "lasaft": dense layers of latent sources, weighted by the source.
            "lightsaft": the same with a second layer that latent sources share.
        num_layers: Convolutions of a TFC or TDC.
        bottleneck_factor: Bins for each hidden unit between the two dense layers of a TDF; None =
            one layer.
        min_units: Smallest number of hidden units.
        bias: Whether dense layers have a bias.
        affine: Whether the norms of dense layers have weights.
        halves_time: Levels at which the number of frames is halved too, 0 = outermost; None = all.
        modulation: How the features of "tfc" blocks depend on the source. "none": not at all.
            "film": a factor and an offset for each channel. "film-simple": one pair for each block.
            "pocm": the channels are mixed. "gpocm": the same as a gate.
        conditioned: Blocks that are modulated: those of the "encoder", of the "decoder", or all
            ("full").
        embedding: Length of the vector that stands for a source.
        control_layers: Dense layers from this vector to the modulation, each twice as wide as the
            one before.
        num_latent: Number of latent sources; "lasaft" and "lightsaft" only.
        key_size: Length of the keys by which latent sources are weighted; "lasaft" and "lightsaft"
            only.

    Raises:
        ConfigError: Values contradict each other.
    """

    section = "model setting network."

    num_blocks: Annotated[int, Range(3, 31, parity="odd")] = 7
    channels: Annotated[int, Range(1, 1024)] = 24
    transform: Literal["tfc", "tdc", "tdf"] = "tfc"
    across: Literal["none", "tdf", "lasaft", "lightsaft"] = "tdf"
    num_layers: Annotated[int, Range(1, 64)] = 5
    bottleneck_factor: Annotated[int, Range(1, 65536)] | None = 16
    min_units: Annotated[int, Range(1, 65536)] = 16
    bias: bool = False
    affine: bool = False
    halves_time: tuple[Annotated[int, Range(0, 14)], ...] | None = None
    modulation: Modulation = "none"
    conditioned: Literal["encoder", "decoder", "full"] = "decoder"
    embedding: Annotated[int, Range(1, 4096)] = 32
    control_layers: Annotated[int, Range(1, 12)] = 3
    num_latent: Annotated[int, Range(1, 256)] = 6
    key_size: Annotated[int, Range(1, 4096)] = 32

    def __post_init__(self) -> None:
        """Check values, and combinations of them."""
        super().__post_init__()
        far = [level for level in self.halves_time or () if not 0 <= level < self.levels]
        if far:
            msg = f"TFC U-Net halves_time: expected levels of 0 to {self.levels - 1}, got {far[0]}"
            raise ConfigError(msg)
        if self.transform != "tfc" and (self.across != "none" or self.modulation != "none"):
            msg = (
                f"TFC U-Net: {self.transform} blocks stand by themselves; expected across none and "
                f"modulation none, got {self.across} and {self.modulation}"
            )
            raise ConfigError(msg)

    @property
    def levels(self) -> int:
        """Number of encoders, and of decoders."""
        return self.num_blocks // 2

    @property
    def halving_levels(self) -> tuple[int, ...]:
        """Levels at which time is halved too."""
        if self.transform != "tfc":
            return ()  # blocks and connections process each frame independently
        levels = range(self.levels)
        return tuple(n for n in levels if self.halves_time is None or n in self.halves_time)

    @property
    def frame_multiple(self) -> int:
        """The number of frames inside is padded to a multiple of this."""
        return int(2 ** len(self.halving_levels))

    @property
    def reach_frames(self) -> int:
        """Upper bound of the receptive field to either side of an output, in frames."""
        if self.transform != "tfc":
            return 0
        steps = [1 << sum(n < level for n in self.halving_levels) for level in range(self.levels)]
        around = 2 * sum(steps) + self.frame_multiple  # steps of all blocks
        return self.num_layers * around + 2 * sum(steps)

    @property
    def knows_sources(self) -> bool:
        """Whether the network is conditioned on the target source."""
        return self.modulation != "none" or self.across in ("lasaft", "lightsaft")


class TFCUNet(nn.Module):
    """From the spectra of a mixture to those of a source.

    Args:
        config: Settings.
        num_bins: Bins of a spectrum; one less must be divisible by 2 at every level.
        num_channels: Real channels of a spectrum: real and imaginary parts.
        num_sources: Number of sources on which it can be conditioned.

    Shape:
        - Input: (batch, num_channels, frames, num_bins), any number of frames; with conditioning
          also indices of sources, shape (batch,)
        - Output: as the input

    Raises:
        ConfigError: The number of bins does not fit.
    """

    def __init__(
        self, config: TFCUNetConfig, *, num_bins: int, num_channels: int = 4, num_sources: int = 4
    ) -> None:
        super().__init__()
        self.config = config
        levels, size = config.levels, config.channels
        if (num_bins - 1) % 2**levels:
            msg = f"TFC U-Net: {num_bins - 1} bins cannot be halved {levels} times"
            raise ConfigError(msg)
        self.first = nn.Sequential(
            nn.Conv2d(num_channels, size, (1, 2)), nn.BatchNorm2d(size), nn.ReLU()
        )
        bins = [(num_bins - 1) >> level for level in range(levels + 1)]
        halving = config.halving_levels
        scales = [(2 if level in halving else 1, 2) for level in range(levels)]
        self.unet = UNet(
            [self._level(size, bins[level]) for level in range(levels)],
            [_Scale(nn.Conv2d, size, scale) for scale in scales],
            self._level(size, bins[levels]),
            [_Scale(nn.ConvTranspose2d, size, scale) for scale in reversed(scales)],
            [self._level(2 * size, bins[level]) for level in reversed(range(levels))],
            frame_multiple=config.frame_multiple,
        )
        self.last = nn.Conv2d(size, num_channels, (1, 2), padding=(0, 1))
        places = {"encoder": levels, "decoder": levels, "full": 2 * levels + 1}
        self._places = places[config.conditioned] if config.modulation != "none" else 0
        if config.knows_sources:
            self.embedding = nn.Embedding(num_sources, config.embedding)
        if config.modulation != "none":
            self.generator = _Generator(config, self._places)
        for parameter in self.parameters():
            if parameter.dim() > 1:
                nn.init.xavier_normal_(parameter)

    def forward(self, spectra: Tensor, sources: Tensor | None = None) -> Tensor:
        """Estimate the source; see the class."""
        conditions = None
        if self.config.knows_sources:
            assert sources is not None
            conditions = self._conditions(sources)
        return self.last(self.unet(self.first(spectra), conditions))  # type: ignore[no-any-return]

    def _conditions(self, sources: Tensor) -> list[Condition | None]:
        embedding = self.embedding(sources)
        plain, config = Condition(embedding), self.config
        conditions = [plain] * self.unet.num_blocks
        if config.modulation != "none":
            made = [Condition(embedding, *pair) for pair in self.generator(embedding, sources)]
            first = config.levels + 1 if config.conditioned == "decoder" else 0
            conditions[first : first + len(made)] = made
        return list(conditions)

    def _level(self, in_channels: int, bins: int) -> Level:
        config = self.config
        size = config.channels
        tdf = partial(self._tdf, bins=bins)
        if config.transform == "tdf":
            narrow = [] if in_channels == size else [nn.Conv2d(in_channels, size, 1)]
            return Level(nn.Sequential(tdf(in_channels), *narrow))
        kernel_frames = 3 if config.transform == "tfc" else 1
        transform = TFC(in_channels, size, config.num_layers, kernel_frames=kernel_frames)
        modulate = {"pocm": pocm, "gpocm": gated_pocm}.get(config.modulation, film)
        if config.across == "none":
            return Level(transform, modulate)
        if config.across == "tdf":
            return Level(transform, modulate, tdf(size))
        kind: type[LaSAFT] | type[LightSAFT] = LaSAFT if config.across == "lasaft" else LightSAFT
        latent = config.num_latent
        across = kind(
            size,
            bins,
            units=self._units(bins * latent if kind is LaSAFT else bins),
            num_latent=latent,
            embedding=config.embedding,
            key_size=config.key_size,
        )
        return Level(transform, modulate, across, needs_embedding=True)

    def _tdf(self, channels: int, *, bins: int) -> TDF:
        config = self.config
        units = None if config.bottleneck_factor is None else self._units(bins)
        return TDF(channels, bins, units, bias=config.bias, affine=config.affine)

    def _units(self, bins: int) -> int:
        return max(bins // (self.config.bottleneck_factor or 1), self.config.min_units)


class _Scale(nn.Sequential):
    """Halve or double frames and bins, or bins alone."""

    def __init__(
        self,
        kind: Callable[..., nn.Module],
        channels: int,
        scale: tuple[int, int],
    ) -> None:
        super().__init__(kind(channels, channels, scale, stride=scale), nn.BatchNorm2d(channels))


class _Generator(nn.Module):
    """From embeddings to gamma and beta of every modulated block."""

    def __init__(self, config: TFCUNetConfig, places: int) -> None:
        super().__init__()
        size, simple = config.channels, config.modulation == "film-simple"
        widths = list(
            accumulate(range(config.control_layers), lambda w, _: 2 * w, initial=config.embedding)
        )
        self.control = DenseControl(config.embedding, widths[1:])
        self._mixes = config.modulation in ("pocm", "gpocm")
        self._gamma_shape = (places, size, size) if self._mixes else (places, 1 if simple else size)
        self._beta_shape = (places, 1 if simple else size)
        self.gamma = nn.Linear(widths[-1], torch.Size(self._gamma_shape).numel())
        self.beta = nn.Linear(widths[-1], torch.Size(self._beta_shape).numel())
        if self._mixes:
            self.gamma_norm = GeneratedNorm(self.gamma.out_features)
            self.beta_norm = GeneratedNorm(self.beta.out_features)
        else:
            nn.init.ones_(self.gamma.bias)  # so that features pass unchanged at initialisation

    def forward(self, embedding: Tensor, sources: Tensor) -> list[tuple[Tensor, Tensor]]:
        """Compute gamma and beta for every modulated block."""
        features = self.control(embedding)
        gamma, beta = self.gamma(features), self.beta(features)
        if self._mixes:
            mixed = self.training and bool((sources != sources[:1]).any())
            gamma = self.gamma_norm(gamma, mixed=mixed)
            beta = self.beta_norm(beta, mixed=mixed)
        gammas = gamma.unflatten(1, self._gamma_shape).unbind(1)
        betas = beta.unflatten(1, self._beta_shape).unbind(1)
        return list(zip(gammas, betas, strict=True))
