"""SFI Conv-TasNet: a mask network between an SFI encoder and an SFI decoder.

Source: Saito, Nakamura, Yatabe and Saruwatari, "Sampling-frequency-independent convolutional layer
and its application to audio source separation", IEEE/ACM TASLP 30:2928-2943, 2022.
"""

import copy
from dataclasses import dataclass, field
from functools import partial
from typing import Literal, TypeVar

import torch
from torch import Tensor

from sfisep_core.models.blocks.consistency import share_residual
from sfisep_core.models.blocks.folding import fold_batch_norms
from sfisep_core.models.blocks.fused_tcn import FusedMaskNetwork, can_fuse
from sfisep_core.models.blocks.side_by_side import map_side_by_side
from sfisep_core.models.blocks.tcn import MaskNetwork, TCNConfig
from sfisep_core.models.contract import (
    DEFAULT_SOURCES,
    GainRule,
    SegmentRule,
    SeparationModel,
    check_sources,
)
from sfisep_core.sfi.analog_filters import make_filters
from sfisep_core.sfi.filter_bank import FilterSettings
from sfisep_core.sfi.frame_grid import Alignment
from sfisep_core.sfi.layers import Design, SFIConv1d, SFIConvTranspose1d
from sfisep_core.sfi.time_design import NyquistRule

# Free masks are bounded: where the training music is silent a mask may become anything, and would
# let bursts pass where another recording is not. Of 1.5, 2, 3, 4 and 6 best on validation music.
_LARGEST_SHARE = 2.0

_Layer = TypeVar("_Layer", SFIConv1d, SFIConvTranspose1d)


@dataclass(frozen=True)
class SFIConvTasNetConfig:
    """Settings of an SFI Conv-TasNet; the defaults are the paper's (FD-MGF)."""

    sources: tuple[str, ...] = DEFAULT_SOURCES
    native_rate: int = 32000  # Hz, rate of training; kernel_size and stride are counted at it
    num_filters: int = 440  # <N>
    kernel_size: int = 160  # <L>, 5 ms
    stride: int = 80  # <W>, 2.5 ms: 400 frames a second
    filters: str = "modulated-gaussian"  # a name in `sfi.FILTERS`
    design: Design = "frequency"
    alignment: Alignment = "exact"  # "release" for weights trained by the published program
    nyquist_rule: NyquistRule = (
        "mask"  # time design: "taper" spares filters next to F/2 their image
    )
    num_response_samples: int = 640  # frequency design: <M>
    num_centers: int = 96  # gammatone only
    lowest_hz: float = 50.0
    highest_hz: float = 16000.0
    tcn: TCNConfig = field(default_factory=TCNConfig)
    trunk: Literal["per-source", "shared"] = "per-source"  # four networks (the paper) or one
    mask: Literal["softmax", "free"] = "softmax"  # free masks may exceed 1 and be negative
    gain_rule: GainRule = "least-squares"
    normalizes_level: bool = True
    segment_seconds: int = 20
    context_seconds: float = 0.5  # the network hears 0.3 s to either side


class SFIConvTasNet(SeparationModel):
    """SFI Conv-TasNet: masks of what analog filters hear, at any sampling frequency.

    Each channel is separated on its own, as in the paper.

    Args:
        config: Settings.

    Raises:
        ConfigError: A setting does not fit another.
    """

    family = "sfi-conv-tasnet"
    latent_gain: Tensor

    def __init__(self, config: SFIConvTasNetConfig) -> None:
        super().__init__()
        self.config = config
        self.sources = config.sources
        self.native_rate = config.native_rate
        self.gain_rule = config.gain_rule
        self.normalizes_level = config.normalizes_level
        self.segments = SegmentRule(
            seconds=config.segment_seconds,
            context_seconds=config.context_seconds,
            chunk_invariant="global" not in config.tcn.norms,
        )
        check_sources(config.sources)
        num_sources = len(config.sources)
        self.encoder = self._layer(SFIConv1d, 1, config.num_filters)
        self.decoder = self._layer(SFIConvTranspose1d, config.num_filters, 1)
        self.masker: MaskNetwork | FusedMaskNetwork = MaskNetwork(
            config.tcn,
            num_features=config.num_filters,
            num_sources=num_sources,
            networks=num_sources if config.trunk == "per-source" else 1,
            softmax=config.mask == "softmax",
        )
        if config.mask == "free":
            # Start near "every stem is an equal share of the mixture", a scale that masks reach
            # at once; decoding with the encoder's own phases makes that share coherent.
            self.decoder.filters.load_state_dict(self.encoder.filters.state_dict())
            torch.nn.init.zeros_(self.masker.conv_out.bias)  # type: ignore[arg-type]
            self.register_buffer("latent_gain", self._initial_gain())

    def forward(self, mixture: Tensor, *, sample_rate: int) -> Tensor:
        """Separate a mixture; see `SeparationModel.forward`."""
        batch, channels, length = mixture.shape
        signals = mixture.reshape(batch * channels, 1, length)
        if signals.numel() == 0:
            return mixture.new_zeros(batch, len(self.sources), channels, length)
        if mixture.device.type == "cpu" and not torch.is_grad_enabled():
            self._prepare(sample_rate)
            parts = torch.split(signals, 1)
            stems = torch.cat(map_side_by_side(partial(self._separate, sample_rate), parts))
        else:
            stems = self._separate(sample_rate, signals)  # (B C, S, T)
        return stems.view(batch, channels, -1, length).transpose(1, 2)

    def _prepare(self, sample_rate: int) -> None:
        """Make what threads would otherwise make once each."""
        self.encoder.taps(sample_rate)
        self.decoder.taps(sample_rate)
        if isinstance(self.masker, FusedMaskNetwork):
            self.masker.prepare()

    def _separate(self, sample_rate: int, signals: Tensor) -> Tensor:
        """Separate signals of shape (signal, 1, time); give (signal, source, time)."""
        stems = self._decode(sample_rate, *self._encode(sample_rate, signals), signals.shape[-1])
        if self.gain_rule == "mixture-consistent":
            with torch.autocast(signals.device.type, enabled=False):
                stems = share_residual(stems, signals, sample_rate=sample_rate)
        return stems.squeeze(2)

    def _encode(self, sample_rate: int, signals: Tensor) -> tuple[Tensor, Tensor]:
        """Give the latent, shape (B, N, frames), and masks for it, shape (B, S, N, frames)."""
        # Samples are made of 32-bit numbers even where the mask network computes with fewer.
        with torch.autocast(signals.device.type, enabled=False):
            latent = self.encoder(signals, sample_rate=sample_rate)
            latent = torch.relu(latent) if torch.is_grad_enabled() else latent.relu_()
            if isinstance(self.masker, MaskNetwork):
                latent = latent.contiguous()  # features of a FusedMaskNetwork lie together
        return latent, self.masker(latent)

    def _decode(self, sample_rate: int, latent: Tensor, masks: Tensor, length: int) -> Tensor:
        """Give what the masks leave of the latent, shape (B, S, 1, T)."""
        # Without gradients one source after the other: each takes the memory of a latent twice.
        at_once = masks.shape[1] if torch.is_grad_enabled() else 1
        with torch.autocast(latent.device.type, enabled=False):
            stems = []
            for some in torch.split(masks, at_once, dim=1):
                masked = self._mask_latent(some.to(latent.dtype), latent).flatten(0, 1)
                stem = self.decoder(masked, sample_rate=sample_rate, length=length)
                stems.append(stem.view(len(latent), -1, 1, length))
            return torch.cat(stems, dim=1)

    def chunk_alignment(self, sample_rate: int) -> int:
        """Give the samples after which the frame positions repeat."""
        return self.encoder.grid(sample_rate).period

    def for_inference(self, *, compiled: bool = False) -> SeparationModel:
        """Give a copy that computes the same with fewer operations, where there is one.

        On CPUs its network is fused, unless a compiler is to do that; elsewhere batch norms are
        folded into convolutions.
        """
        if isinstance(self.masker, FusedMaskNetwork):
            return self
        if not compiled and next(self.parameters()).device.type == "cpu" and can_fuse(self.masker):
            model = copy.deepcopy(self).eval()
            model.masker = FusedMaskNetwork(copy.deepcopy(self.masker).eval())
            return model
        return fold_batch_norms(self) if "batch" in self.config.tcn.norms else self

    def compile_network(self, *, dynamic: bool | None = None) -> None:
        """Compile the mask network in place: it sees 400 frames a second whatever the rate."""
        self.masker.compile(dynamic=dynamic)

    def _mask_latent(self, masks: Tensor, latent: Tensor) -> Tensor:
        """Apply masks of shape (B, S, N, frames) to a latent of shape (B, N, frames)."""
        latent = latent.unsqueeze(1)
        if self.config.mask == "softmax":
            # Masks take much memory: without gradients, what is masked takes their place.
            return masks * latent if torch.is_grad_enabled() else masks.mul_(latent)
        shares = (masks + 1.0 / len(self.sources)).clamp(-_LARGEST_SHARE, _LARGEST_SHARE)
        return shares * (latent * self.latent_gain[:, None])

    def _layer(self, layer: type[_Layer], in_channels: int, out_channels: int) -> _Layer:
        config = self.config
        filters = make_filters(
            config.filters,
            FilterSettings(
                config.num_filters, config.num_centers, config.lowest_hz, config.highest_hz
            ),
        )
        return layer(
            in_channels,
            out_channels,
            filters,
            design=config.design,
            native_rate=config.native_rate,
            kernel_size=config.kernel_size,
            stride=config.stride,
            alignment=config.alignment,
            nyquist_rule=config.nyquist_rule,
            num_response_samples=config.num_response_samples,
        )

    @torch.no_grad()
    def _initial_gain(self) -> Tensor:
        """Find a gain per filter with which encoder and decoder together are roughly flat.

        A tone at filter k's centre comes back with gain sum_l |H_l|^2 / (2 S): half of it survives
        the rectifier, one frame is added every S samples. Measured with the designed taps, since
        that holds for every kind of filter.
        """
        rate = self.native_rate
        encoder, decoder = self.encoder.taps(rate)[0].double(), self.decoder.taps(rate)[0].double()
        centers = self.encoder.filters.centers_hz().to(encoder.device).clamp(max=0.49 * rate)
        steps = torch.arange(encoder.shape[-1], dtype=torch.float64) / rate
        tones = torch.exp(-2j * torch.pi * torch.outer(steps, centers))
        power = ((encoder + 0j) @ tones) * ((decoder + 0j) @ tones).conj()
        gain: Tensor = power.real.sum(dim=0) / (2 * self.config.stride)
        return (1.0 / gain.clamp_min(1e-3 * gain.max())).float()
