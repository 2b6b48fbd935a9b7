"""The temporal convolutional network that estimates masks, for one or several sources at once.

Source: Luo and Mesgarani, "Conv-TasNet", TASLP 2019 (blocks); Samuel et al., "Meta-learning
extractors for music source separation", ICASSP 2020 (order conv, PReLU, norm; one network per stem,
run as grouped convolutions); Saito et al. 2022 (its use between SFI layers).
"""

from dataclasses import dataclass
from typing import Annotated

from torch import Tensor, nn

from sfisep_core.config_values import CheckedConfig, Range
from sfisep_core.models.blocks.norms import InputNormKind, NormKind, make_norm


@dataclass(frozen=True)
class TCNConfig(CheckedConfig):
    """Size of a temporal convolutional network.

    Attributes:
        bottleneck_channels: Channels between layers <B>.
        hidden_channels: Channels inside a layer <H>.
        kernel_size: Frames of a depthwise convolution <P>.
        num_layers: Layers of a stack <X>, with dilations of 1, 2, 4, ... frames.
        num_stacks: Number of stacks <R>.
        norm: Norms of the layers, by the span of their statistics. "global": all channels of a
            group over all time, as published; masks then depend on how a signal is cut into
            segments. "batch": batch norm. "frame": all channels of one frame. "window": all
            channels of a bounded window of time.
        input_norm: Norm of the input, the same kinds; "same": as `norm`. Before batch norms,
            "window" makes masks independent of the level of a recording, on which they would depend
            with running statistics alone.
        norm_groups: Groups of channels that are normalised separately; "global" norms only.
        norm_window: Frames of the window, centred on the frame that is normalised; "window" norms
            only.

    Raises:
        ConfigError: A size is below 1, or the kernel size is even.
    """

    section = "model setting tcn."

    bottleneck_channels: Annotated[int, Range(1, 4096)] = 160
    hidden_channels: Annotated[int, Range(1, 8192)] = 160
    kernel_size: Annotated[int, Range(1, 129, parity="odd")] = 3
    num_layers: Annotated[int, Range(1, 16)] = 6
    num_stacks: Annotated[int, Range(1, 64)] = 2
    norm: NormKind = "global"
    input_norm: InputNormKind = "same"
    norm_groups: Annotated[int, Range(1, 4096)] = 8
    norm_window: Annotated[int, Range(1, 100001, parity="odd")] = 201

    @property
    def norms(self) -> set[NormKind]:
        """Kinds of norm in the network."""
        return {self.norm, self.first_norm}

    @property
    def first_norm(self) -> NormKind:
        """Kind of the norm of the input."""
        return self.norm if self.input_norm == "same" else self.input_norm


class TCNLayer(nn.Module):
    """One layer: pointwise and depthwise dilated convolution, then residual and skip outputs.

    Args:
        config: Sizes of one network.
        networks: Number of independent networks, run as grouped convolutions.
        dilation: Of the depthwise convolution, in frames.
        bias: Whether convolutions have one.
        residual: Whether there is a residual output; without it features pass unchanged.

    Shape:
        - Input: (batch, networks * bottleneck, frames)
        - Output: two tensors of this shape: input plus residual, and the contribution to the skip
          sum
    """

    def __init__(
        self,
        config: TCNConfig,
        *,
        networks: int,
        dilation: int,
        bias: bool = False,
        residual: bool = True,
    ) -> None:
        super().__init__()
        outer, inner = networks * config.bottleneck_channels, networks * config.hidden_channels
        self.conv_in = nn.Conv1d(outer, inner, 1, groups=networks, bias=bias)
        self.prelu_1 = nn.PReLU()
        self.norm_1 = _norm(config, inner, networks)
        self.depthwise = nn.Conv1d(
            inner,
            inner,
            config.kernel_size,
            padding=dilation * (config.kernel_size - 1) // 2,
            dilation=dilation,
            groups=inner,
            bias=bias,
        )
        self.prelu_2 = nn.PReLU()
        self.norm_2 = _norm(config, inner, networks)
        self.residual: nn.Conv1d | None = None
        if residual:
            self.residual = nn.Conv1d(inner, outer, 1, groups=networks, bias=bias)
        self.skip = nn.Conv1d(inner, outer, 1, groups=networks, bias=bias)

    def forward(self, features: Tensor) -> tuple[Tensor, Tensor]:
        """Run the layer; see the class."""
        hidden = self.norm_1(self.prelu_1(self.conv_in(features)))  # (B, G H, frames)
        hidden = self.norm_2(self.prelu_2(self.depthwise(hidden)))  # (B, G H, frames)
        if self.residual is not None:
            features = features + self.residual(hidden)
        return features, self.skip(hidden)


class TCNLayers(nn.ModuleList):
    """All layers, with dilations that double within a stack; returns the sum of the skips.

    Args:
        config: Sizes of one network.
        networks: Number of independent networks, run as grouped convolutions.
        bias: Whether convolutions have one.
        last_residual: Whether the last layer has a residual output, which is never used.

    Shape:
        - Input and output: (batch, networks * bottleneck, frames)
    """

    def __init__(
        self, config: TCNConfig, *, networks: int, bias: bool = False, last_residual: bool = True
    ) -> None:
        count = config.num_stacks * config.num_layers
        super().__init__(
            TCNLayer(
                config,
                networks=networks,
                dilation=2 ** (number % config.num_layers),
                bias=bias,
                residual=last_residual or number < count - 1,
            )
            for number in range(count)
        )

    def forward(self, features: Tensor) -> Tensor:
        """Run the layers; see the class."""
        skip_sum: Tensor | None = None
        for layer in self:
            features, skip = layer(features)
            skip_sum = skip if skip_sum is None else skip_sum + skip
        assert skip_sum is not None
        return skip_sum


class MaskNetwork(nn.Module):
    """From latent features to masks of every source.

    Args:
        num_features: Channels of the latent <N>.
        num_sources: Sources <C>.
        networks: `num_sources` for one independent network per source (published), 1 for a trunk
            that all sources share.
        softmax: Whether PReLU, norm and a softmax over the sources follow the last convolution
            (published); without them the convolution has a bias and its output is not bounded.

    Shape:
        - Input: (batch, num_features, frames)
        - Output: (batch, num_sources, num_features, frames)
    """

    def __init__(
        self,
        config: TCNConfig,
        *,
        num_features: int,
        num_sources: int,
        networks: int,
        softmax: bool,
    ) -> None:
        super().__init__()
        self.num_sources = num_sources
        self.networks = networks
        self.softmax = softmax
        outer = networks * config.bottleneck_channels
        outputs = num_sources * num_features
        self.prelu_1 = nn.PReLU()
        self.norm_1 = _norm(config, networks * num_features, networks, kind=config.first_norm)
        self.conv_in = nn.Conv1d(networks * num_features, outer, 1, groups=networks, bias=False)
        self.prelu_2 = nn.PReLU()
        self.norm_2 = _norm(config, outer, networks)
        self.layers = TCNLayers(config, networks=networks)
        self.prelu_3 = nn.PReLU()
        self.norm_3 = _norm(config, outer, networks)
        self.conv_out = nn.Conv1d(outer, outputs, 1, groups=networks, bias=not softmax)
        self.output = nn.Sequential()
        if softmax:
            self.output = nn.Sequential(nn.PReLU(), _norm(config, outputs, networks))

    def forward(self, latent: Tensor) -> Tensor:
        """Estimate masks; see the class."""
        features = self.prelu_1(latent).repeat(1, self.networks, 1)  # (B, G N, frames)
        features = self.prelu_2(self.conv_in(self.norm_1(features)))  # (B, G B, frames)
        skip_sum = self.layers(self.norm_2(features))
        raw = self.output(self.conv_out(self.norm_3(self.prelu_3(skip_sum))))  # (B, C N, frames)
        masks: Tensor = raw.unflatten(1, (self.num_sources, -1))
        return masks.softmax(dim=1) if self.softmax else masks


def _norm(
    config: TCNConfig, channels: int, networks: int, *, kind: NormKind | None = None
) -> nn.Module:
    return make_norm(
        kind or config.norm,
        channels,
        networks=networks,
        norm_groups=config.norm_groups,
        window=config.norm_window,
    )
