"""DeepConvSep: a convolutional autoencoder of magnitudes with one decoder per source.

Source: Chandna, Miron, Janer and Gomez, "Monoaural audio source separation using deep convolutional
neural networks", LVA/ICA 2017.
"""

from dataclasses import dataclass, field
from typing import Annotated, Literal

import torch
from torch import Tensor, nn
from torch.nn.functional import conv_transpose2d

from sfisep_core.audio.stft import STFTConfig
from sfisep_core.config_values import CheckedConfig, Range
from sfisep_core.errors import ConfigError
from sfisep_core.models.blocks.masks import mask_spectra, ratio_mask
from sfisep_core.models.blocks.windows import run_windows
from sfisep_core.models.contract import GainRule
from sfisep_core.models.spectrogram_model import SpectrogramConfig, SpectrogramModel


@dataclass(frozen=True)
class DeepConvSepNetworkConfig(CheckedConfig):
    """Size and form of the network; the defaults are those of the authors' program.

    Attributes:
        frames: Frames of a window <T>; the network takes no other length.
        kernel_frames: Frames of the horizontal convolution <t2>, at most `frames`.
        num_vertical: Filters of the vertical convolution <N1>, each over all bins of a frame.
        num_horizontal: Filters of the horizontal convolution <N2>, each over `kernel_frames`.
        num_features: Outputs of the dense layer that all sources share.
        tied: Whether decoders use the encoder's weights, as the authors' program does; otherwise
            they have their own.
        activation: Of the outputs: "relu", or "abs" for absolute values.
        channels: Channels that are separated together; with 1 each is separated by itself.
        normalizes_bins: Whether every bin is scaled by the range of its values in training.

    Raises:
        ConfigError: A size does not fit.
    """

    section = "model setting network."

    frames: Annotated[int, Range(1, 4096)] = 30
    kernel_frames: Annotated[int, Range(1, 4096)] = 15
    num_vertical: Annotated[int, Range(1, 8192)] = 50
    num_horizontal: Annotated[int, Range(1, 8192)] = 50
    num_features: Annotated[int, Range(1, 65536)] = 128
    tied: bool = True
    activation: Literal["relu", "abs"] = "relu"
    channels: Literal[1, 2] = 1
    normalizes_bins: bool = False

    def __post_init__(self) -> None:
        """Check values, and the kernel against the window."""
        super().__post_init__()
        if self.kernel_frames > self.frames:
            msg = (
                f"model setting network.kernel_frames: expected at most network.frames "
                f"({self.frames}), got {self.kernel_frames}"
            )
            raise ConfigError(msg)


class DeepConvSepNetwork(nn.Module):
    """From magnitudes of a mixture to magnitudes of its sources, before any mask.

    Every layer is as published. Weights are initialised after Glorot and Bengio (2010), as in the
    authors' program and in the one for Keras; the stereo network keeps PyTorch's initialisation.

    Args:
        config: Settings.
        num_bins: Bins of a spectrum <F>.
        num_sources: Sources <S>.

    Shape:
        - Input: (batch, channel, frames, num_bins), at least 0
        - Output: (batch, num_sources, channel, frames, num_bins), at least 0
    """

    bin_range: Tensor

    def __init__(
        self, config: DeepConvSepNetworkConfig, *, num_bins: int, num_sources: int
    ) -> None:
        super().__init__()
        self.config = config
        self.num_sources = num_sources
        channels, first, second = config.channels, config.num_vertical, config.num_horizontal
        self.left = config.frames - config.kernel_frames + 1  # frames after the second convolution
        size = second * self.left
        self.vertical = nn.Conv2d(channels, first, (1, num_bins))
        self.horizontal = nn.Conv2d(first, second, (config.kernel_frames, 1))
        self.bottleneck = nn.Linear(size, config.num_features)
        self.expand = nn.Linear(config.num_features, num_sources * size)
        if config.tied:
            # The published program adds a second bias to convolutions that already have one. It
            # changes only how fast both are learned, and the number of parameters.
            self.second_biases = nn.ParameterList([torch.zeros(first), torch.zeros(second)])
            self.output_bias = nn.Parameter(torch.zeros(num_sources, 1, 1, 1))
        else:
            self.horizontal_back = nn.ConvTranspose2d(
                num_sources * second,
                num_sources * first,
                (config.kernel_frames, 1),
                groups=num_sources,
            )
            self.vertical_back = nn.ConvTranspose2d(
                num_sources * first, num_sources * channels, (1, num_bins), groups=num_sources
            )
        self._start(num_sources)
        if config.normalizes_bins:
            # Smallest and largest value of every bin and channel seen in training.
            nothing = torch.tensor([torch.inf, -torch.inf]).view(2, 1, 1, 1)
            self.register_buffer("bin_range", nothing.repeat(1, channels, 1, num_bins))

    def forward(self, magnitudes: Tensor) -> Tensor:
        """Compute the sources' magnitudes; see the class."""
        batch, *rest = magnitudes.shape
        shape = (batch, self.num_sources, *rest)
        if self.config.normalizes_bins:
            if self.training:
                self._widen_range(magnitudes)
            low, high = self.bin_range
            low = torch.where(low.isfinite(), low, 0.0)  # before training there is no range
            span = (high - low).clamp_min(0.0)
            # Bins that were constant in training are set to 0.
            magnitudes = (magnitudes - low) / torch.where(span > 0, span, torch.inf)
        hidden = self.vertical(magnitudes)  # (B, N1, T, 1)
        if self.config.tied:
            hidden = hidden + self.second_biases[0].view(-1, 1, 1)
        hidden = self.horizontal(hidden)  # (B, N2, T - t2 + 1, 1)
        if self.config.tied:
            hidden = hidden + self.second_biases[1].view(-1, 1, 1)
        features = torch.relu(self.bottleneck(hidden.flatten(1)))
        hidden = torch.relu(self.expand(features))
        hidden = hidden.view(batch, self.num_sources * self.config.num_horizontal, self.left, 1)
        if self.config.tied:
            hidden = hidden.view(-1, self.config.num_horizontal, self.left, 1)  # (B S, N2, ..., 1)
            hidden = conv_transpose2d(hidden, self.horizontal.weight)  # (B S, N1, T, 1)
            outputs = conv_transpose2d(hidden, self.vertical.weight)  # (B S, C, T, F)
            outputs = outputs.view(shape) + self.output_bias
        else:
            outputs = self.vertical_back(self.horizontal_back(hidden)).view(shape)
        outputs = outputs.abs() if self.config.activation == "abs" else torch.relu(outputs)
        if self.config.normalizes_bins:
            outputs = low + outputs * span
        return outputs

    @torch.no_grad()
    def _widen_range(self, magnitudes: Tensor) -> None:
        low, high = self.bin_range
        least, largest = magnitudes.amin((0, 2))[:, None], magnitudes.amax((0, 2))[:, None]
        finite = least.isfinite() & largest.isfinite()
        low.copy_(torch.where(finite, torch.minimum(low, least), low))
        high.copy_(torch.where(finite, torch.maximum(high, largest), high))

    @torch.no_grad()
    def _start(self, num_sources: int) -> None:
        """Initialise the weights, for each source separately where a layer holds those of all."""
        for layer in self.children():
            if isinstance(layer, nn.Linear | nn.Conv2d | nn.ConvTranspose2d):
                shared = layer in (self.vertical, self.horizontal, self.bottleneck)
                for weight in layer.weight.chunk(1 if shared else num_sources):
                    nn.init.xavier_uniform_(weight)
                nn.init.zeros_(layer.bias)  # type: ignore[arg-type]


@dataclass(frozen=True)
class DeepConvSepConfig(SpectrogramConfig):
    """Settings of DeepConvSep; the defaults are those of the authors' program.

    Attributes:
        network: Size and form of the network.
        overlap: Frames that a window shares with the next, fewer than `network.frames`.
    """

    stft: STFTConfig = field(
        default_factory=lambda: STFTConfig(n_fft=1024, hop=256, padding="zeros", scale="ortho")
    )
    gain_rule: GainRule = "mixture-consistent"
    normalizes_level: bool = True
    network: DeepConvSepNetworkConfig = field(default_factory=DeepConvSepNetworkConfig)
    overlap: Annotated[int, Range(0, 4095)] = 15


class DeepConvSep(SpectrogramModel):
    """DeepConvSep: a convolutional autoencoder with ratio masks from the decoders' outputs.

    Args:
        config: Settings.

    Raises:
        ConfigError: Settings contradict each other.
    """

    family = "deepconvsep"
    config: DeepConvSepConfig

    def __init__(self, config: DeepConvSepConfig) -> None:
        frames, overlap = config.network.frames, config.overlap
        if not 0 <= overlap < frames:
            msg = f"DeepConvSep overlap: expected 0 to {frames - 1} frames, got {overlap}"
            raise ConfigError(msg)
        # A frame depends on the windows in which it lies.
        reach = frames * config.stft.hop + config.stft.n_fft
        super().__init__(
            config,
            channels=config.network.channels,
            chunk_invariant=reach <= config.context_seconds * config.native_rate,
            frame_step=frames - overlap,
        )
        self.network = DeepConvSepNetwork(
            config.network, num_bins=config.stft.num_bins, num_sources=len(config.sources)
        )

    def estimate(self, spectra: Tensor) -> Tensor:
        """Mask the spectra; see `SpectrogramModel.estimate`."""
        masks = run_windows(
            lambda magnitudes: ratio_mask(self.network(magnitudes)),
            spectra.abs().transpose(-1, -2),
            frames=self.config.network.frames,
            overlap=self.config.overlap,
        )
        return mask_spectra(masks.transpose(-1, -2), spectra)
