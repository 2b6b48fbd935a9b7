"""SFI Conv-TasNet: a mask network between an SFI encoder and an SFI decoder.

Source: Saito, Nakamura, Yatabe and Saruwatari, "Sampling-frequency-independent convolutional layer
and its application to audio source separation", IEEE/ACM TASLP 30:2928-2943, 2022.
"""

from dataclasses import dataclass, field
from typing import Annotated, Literal, TypeVar

import torch
from torch import Tensor

from sfisep_core.config_values import Range, SampleRate
from sfisep_core.models.blocks.tcn import MaskNetwork, TCNConfig
from sfisep_core.models.contract import FamilyConfig, SeparationModel
from sfisep_core.models.inference import faster
from sfisep_core.models.mask_model import MaskModel
from sfisep_core.sfi.analog_filters import make_filters
from sfisep_core.sfi.filter_bank import FilterSettings
from sfisep_core.sfi.frame_grid import Alignment
from sfisep_core.sfi.layers import Design, SFIConv1d, SFIConvTranspose1d
from sfisep_core.sfi.time_design import NyquistRule

# Bound of free masks: where the training music is silent a mask is not constrained, and would let
# bursts pass in recordings that are not silent there. Best of 1.5, 2, 3, 4 and 6 on validation
# music.
_LARGEST_SHARE = 2.0

_Layer = TypeVar("_Layer", SFIConv1d, SFIConvTranspose1d)


@dataclass(frozen=True)
class SFIConvTasNetConfig(FamilyConfig):
    """Settings of an SFI Conv-TasNet; the defaults are the paper's (FD-MGF).

    The receptive field of the paper's network is 0.3 s to either side, which `context_seconds`
    covers.

    Attributes:
        num_filters: Number of analog filters of the encoder, and of the decoder <N>.
        kernel_size: Length of a filter <L>, in samples at `native_rate`; at other rates filters
            keep their duration.
        stride: Distance between frames <W>, in samples at `native_rate`; at other rates frames keep
            their number per second.
        filters: Kind of the analog filters, a name in `sfisep_core.sfi.FILTERS`. The paper's are
            "modulated-gaussian" (MGF) and "multi-phase-gammatone" (MPGTF).
        design: How the filters' taps are computed at a rate. "frequency": they fit the frequency
            response, for kinds of filter that have one. "time": they sample the impulse response.
        alignment: Positions of frames and taps. "exact": the same instants at every rate.
            "release": those of the published program, for weights that were trained with it; where
            its kernel or stride is not a whole number of samples it is the same as "exact".
        nyquist_rule: Filters near half the sampling frequency F / 2, in the time design. "mask":
            those whose centre lies above it are set to zero below the native rate. "taper": filters
            fade out towards it, which removes the images of those next to it; needs the alignment
            "exact".
        num_response_samples: Smallest number of frequencies at which taps are fitted <M>; frequency
            design with the alignment "release" only.
        num_centers: Number of different centre frequencies, which "multi-phase-gammatone" filters
            share; other kinds have one each.
        lowest_hz: Hz, centre of the first filter before training.
        highest_hz: Hz, centre of the last filter before training.
        tcn: Temporal convolutional network that estimates the masks.
        trunk: "per-source": one mask network for each source, as in the paper. "shared": one
            network for all sources.
        mask: "softmax": masks lie between 0 and 1 and sum to 1 over the sources, as in the paper.
            "free": masks may exceed 1 and be negative.
    """

    native_rate: SampleRate = 32000
    num_filters: Annotated[int, Range(1, 4096)] = 440
    kernel_size: Annotated[int, Range(1, 8192)] = 160
    stride: Annotated[int, Range(1, 8192)] = 80
    filters: str = "modulated-gaussian"
    design: Design = "frequency"
    alignment: Alignment = "exact"
    nyquist_rule: NyquistRule = "mask"
    num_response_samples: Annotated[int, Range(2, 65536)] = 640
    num_centers: Annotated[int, Range(1, 4096)] = 96
    lowest_hz: Annotated[float, Range(0, 192_000)] = 50.0
    highest_hz: Annotated[float, Range(0, 192_000)] = 16000.0
    tcn: TCNConfig = field(default_factory=TCNConfig)
    trunk: Literal["per-source", "shared"] = "per-source"
    mask: Literal["softmax", "free"] = "softmax"
    normalizes_level: bool = True

    @property
    def values_per_second(self) -> float:
        """Values of the latent; see `FamilyConfig.values_per_second`."""
        return self.num_filters * self.native_rate / self.stride


class SFIConvTasNet(MaskModel):
    """SFI Conv-TasNet: masks on the latent of an SFI encoder, at any sampling frequency.

    Channels are separated independently, as in the paper.

    Args:
        config: Settings.

    Raises:
        ConfigError: Settings contradict each other.
    """

    family = "sfi-conv-tasnet"
    one_by_one = True
    latent_gain: Tensor

    def __init__(self, config: SFIConvTasNetConfig) -> None:
        super().__init__()
        self.configure(config, chunk_invariant="global" not in config.tcn.norms)
        num_sources = len(config.sources)
        self.encoder = self._layer(SFIConv1d, 1, config.num_filters)
        self.decoder = self._layer(SFIConvTranspose1d, config.num_filters, 1)
        masker = MaskNetwork(
            config.tcn,
            num_features=config.num_filters,
            num_sources=num_sources,
            networks=num_sources if config.trunk == "per-source" else 1,
            softmax=config.mask == "softmax",
        )
        self.masker = masker
        if config.mask == "free":
            # Initialise near "every stem is an equal share of the mixture", a scale that masks
            # reach quickly. Decoding with the encoder's own phases makes that share coherent.
            self.decoder.filters.load_state_dict(self.encoder.filters.state_dict())
            assert masker.conv_out.bias is not None
            torch.nn.init.zeros_(masker.conv_out.bias)
            self.register_buffer("latent_gain", self._initial_gain())

    def analyze(self, signals: Tensor, sample_rate: int) -> Tensor:
        """Compute the rectified output of the SFI encoder; see `MaskModel.analyze`."""
        latent: Tensor = self.encoder(signals, sample_rate=sample_rate)
        latent = torch.relu(latent) if torch.is_grad_enabled() else latent.relu_()
        return latent.contiguous() if self.contiguous_latent else latent

    def synthesize(self, latent: Tensor, masks: Tensor, sample_rate: int, length: int) -> Tensor:
        """Mask the latent and compute its samples; see `MaskModel.synthesize`."""
        # Without gradients one source after the other: each takes twice the memory of a latent.
        at_once = masks.shape[1] if torch.is_grad_enabled() else 1
        stems = []
        for some in torch.split(masks, at_once, dim=1):
            masked = self._mask_latent(some.to(latent.dtype), latent).flatten(0, 1)
            stem = self.decoder(masked, sample_rate=sample_rate, length=length)
            stems.append(stem.view(len(latent), -1, length))
        return torch.cat(stems, dim=1)

    def chunk_alignment(self, sample_rate: int) -> int:
        """Compute the number of samples after which the frame positions repeat."""
        return self.encoder.grid(sample_rate).period

    def for_inference(self, *, compiled: bool = False) -> SeparationModel:
        """Build an equivalent model that separates faster; see `inference.faster`."""
        return faster(self, compiled=compiled)

    def _mask_latent(self, masks: Tensor, latent: Tensor) -> Tensor:
        """Apply masks of shape (B, S, N, frames) to a latent of shape (B, N, frames)."""
        latent = latent.unsqueeze(1)
        if self.config.mask == "softmax":
            # Masks take much memory: without gradients the masked latent overwrites them.
            return masks * latent if torch.is_grad_enabled() else masks.mul_(latent)
        latent = latent * self.latent_gain[:, None]
        if torch.is_grad_enabled():
            shares = (masks + 1.0 / len(self.sources)).clamp(-_LARGEST_SHARE, _LARGEST_SHARE)
            return shares * latent
        masks.add_(1.0 / len(self.sources)).clamp_(-_LARGEST_SHARE, _LARGEST_SHARE)
        return masks.mul_(latent)

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
        """Compute a gain per filter that makes encoder and decoder together roughly flat.

        A tone at filter k's centre is reconstructed with gain sum_l |H_l|^2 / (2 S): the rectifier
        passes half of it, and one frame is added every S samples. It is computed from the designed
        taps, which works for every kind of filter.
        """
        if self.encoder.filters.device.type == "meta":  # only shapes matter here
            return torch.empty(self.config.num_filters, device="meta")
        rate = self.native_rate
        encoder, decoder = self.encoder.taps(rate)[0].double(), self.decoder.taps(rate)[0].double()
        centers = self.encoder.filters.centers_hz().to(encoder.device).clamp(max=0.49 * rate)
        steps = torch.arange(encoder.shape[-1], dtype=torch.float64) / rate
        tones = torch.exp(-2j * torch.pi * torch.outer(steps, centers))
        power = ((encoder + 0j) @ tones) * ((decoder + 0j) @ tones).conj()
        gain: Tensor = power.real.sum(dim=0) / (2 * self.config.stride)
        return (1.0 / gain.clamp_min(1e-3 * gain.max())).float()
