"""SFI Conv-TasNet in plain eager PyTorch, run the way the published program runs it.

What the speed of `separate` is measured against: grouped convolutions for the four networks, taps
built on every call with a pseudo-inverse, stride and kernel rounded down to whole samples, each
channel on its own, the file in eight chunks with four seconds of context on either side, one gain a
stem by least squares, everything in memory. It takes the weights of a model of this package.

Source: Saito et al. 2022 and the behaviour of its published program.
"""

import math
from pathlib import Path

import numpy as np
import numpy.typing as npt
import soundfile
import torch
from torch import Tensor, nn
from torch.nn import functional

from sfisep_core.models.sfi_conv_tasnet import SFIConvTasNet, SFIConvTasNetConfig
from sfisep_core.sfi.analog_filters import ModulatedGaussianFilters

CHUNKS = 8
CONTEXT_SECONDS = 4


class Layer(nn.Module):
    """One layer of the mask network; the names of weights are those of `TCNLayer`."""

    def __init__(self, config: SFIConvTasNetConfig, networks: int, dilation: int) -> None:
        super().__init__()
        tcn = config.tcn
        outer, inner = networks * tcn.bottleneck_channels, networks * tcn.hidden_channels
        self.conv_in = nn.Conv1d(outer, inner, 1, groups=networks, bias=False)
        self.prelu_1 = nn.PReLU()
        self.norm_1 = nn.GroupNorm(networks * tcn.norm_groups, inner, eps=1e-8)
        padding = dilation * (tcn.kernel_size - 1) // 2
        self.depthwise = nn.Conv1d(
            inner,
            inner,
            tcn.kernel_size,
            padding=padding,
            dilation=dilation,
            groups=inner,
            bias=False,
        )
        self.prelu_2 = nn.PReLU()
        self.norm_2 = nn.GroupNorm(networks * tcn.norm_groups, inner, eps=1e-8)
        self.residual = nn.Conv1d(inner, outer, 1, groups=networks, bias=False)
        self.skip = nn.Conv1d(inner, outer, 1, groups=networks, bias=False)

    def forward(self, features: Tensor) -> tuple[Tensor, Tensor]:
        """Give the layer's output and its share in the skip sum."""
        hidden = self.norm_1(self.prelu_1(self.conv_in(features)))
        hidden = self.norm_2(self.prelu_2(self.depthwise(hidden)))
        return features + self.residual(hidden), self.skip(hidden)


class PlainMasker(nn.Module):
    """The published mask network; the names of weights are those of `MaskNetwork`."""

    def __init__(self, config: SFIConvTasNetConfig) -> None:
        super().__init__()
        self.num_sources = networks = len(config.sources)
        tcn, features = config.tcn, config.num_filters
        outer = networks * tcn.bottleneck_channels
        groups = networks * tcn.norm_groups
        self.prelu_1, self.prelu_2, self.prelu_3 = nn.PReLU(), nn.PReLU(), nn.PReLU()
        self.norm_1 = nn.GroupNorm(groups, networks * features, eps=1e-8)
        self.conv_in = nn.Conv1d(networks * features, outer, 1, groups=networks, bias=False)
        self.norm_2 = nn.GroupNorm(groups, outer, eps=1e-8)
        self.layers = nn.ModuleList(
            Layer(config, networks, 2**layer)
            for _ in range(tcn.num_stacks)
            for layer in range(tcn.num_layers)
        )
        self.norm_3 = nn.GroupNorm(groups, outer, eps=1e-8)
        self.conv_out = nn.Conv1d(outer, networks * features, 1, groups=networks, bias=False)
        self.output = nn.Sequential(nn.PReLU(), nn.GroupNorm(groups, networks * features, eps=1e-8))

    def forward(self, latent: Tensor) -> Tensor:
        """Give masks, shape (batch, source, filter, frame)."""
        features = self.norm_1(self.prelu_1(latent.repeat(1, self.num_sources, 1)))
        features = self.norm_2(self.prelu_2(self.conv_in(features)))
        total = torch.zeros_like(features)
        for layer in self.layers:
            features, skip = layer(features)
            total = total + skip
        raw = self.output(self.conv_out(self.norm_3(self.prelu_3(total))))
        return raw.unflatten(1, (self.num_sources, -1)).softmax(dim=1)


class ReleasedWay:
    """The published procedure with the weights of a frequency-domain model in the paper's form."""

    def __init__(self, model: SFIConvTasNet) -> None:
        assert isinstance(model.encoder.filters, ModulatedGaussianFilters)
        assert isinstance(model.decoder.filters, ModulatedGaussianFilters)
        self.config = model.config
        self.filters = (model.encoder.filters, model.decoder.filters)
        self.masker = PlainMasker(model.config).eval()
        self.masker.load_state_dict(model.masker.state_dict())

    def taps(self, filters: ModulatedGaussianFilters, sample_rate: int) -> Tensor:
        """Fit taps to the frequency response, as on every forward pass; (filter, 1, tap)."""
        samples = self.config.num_response_samples
        num_taps = self.config.kernel_size * sample_rate // self.config.native_rate
        frequencies = torch.linspace(0, math.pi * sample_rate, samples, dtype=torch.float64)
        first = -(num_taps // 2 - 1) if num_taps % 2 == 0 else -(num_taps // 2)
        positions = torch.arange(num_taps).double() + first
        basis = torch.exp(-1j * torch.outer(frequencies / sample_rate, positions))
        response = filters.frequency_response(frequencies)
        stacked = torch.cat([response.real, response.imag], dim=-1)  # (filter, 2 M)
        taps = stacked @ torch.linalg.pinv(torch.cat([basis.real, basis.imag])).T
        return taps.flip(-1).float().unsqueeze(1)

    def estimate(self, signal: Tensor, sample_rate: int) -> Tensor:
        """Separate one channel, shape (time,), as a whole; shape (source, time)."""
        stride = self.config.stride * sample_rate // self.config.native_rate
        encoder = self.taps(self.filters[0], sample_rate)
        padding = (encoder.shape[-1] - stride) // 2
        latent = functional.conv1d(signal[None, None], encoder, stride=stride, padding=padding)
        latent = torch.relu(latent)
        masked = self.masker(latent)[0] * latent  # (source, filter, frame)
        decoder = self.taps(self.filters[1], sample_rate)
        estimates = functional.conv_transpose1d(masked, decoder, stride=stride, padding=padding)
        return estimates[:, 0]

    @torch.no_grad()
    def separate_file(self, path: Path, out_dir: Path) -> None:
        """Separate a file and write its stems with 16 bits."""
        mixture, sample_rate = soundfile.read(path, dtype="float32", always_2d=True)
        channels = [self._channel(channel, sample_rate) for channel in mixture.T]
        stems = np.stack(channels, axis=-1)  # (source, time, channel)
        out_dir.mkdir(parents=True, exist_ok=True)
        for name, stem in zip(self.config.sources, stems, strict=True):
            soundfile.write(out_dir / f"{name}.wav", stem, sample_rate, subtype="PCM_16")

    def _channel(
        self, mixture: npt.NDArray[np.float32], sample_rate: int
    ) -> npt.NDArray[np.float32]:
        signal = torch.from_numpy(np.ascontiguousarray(mixture))
        signal = signal / signal.std()
        size, context = -(-len(signal) // CHUNKS), CONTEXT_SECONDS * sample_rate
        parts = []
        for start in range(0, len(signal), size):
            begin, end = max(0, start - context), min(len(signal), start + size + context)
            part = self.estimate(signal[begin:end], sample_rate)
            stop = min(len(signal), start + size)
            part = functional.pad(part, (0, end - begin - part.shape[-1]))  # it came out shorter
            parts.append(part[:, start - begin : stop - begin])
        stems = torch.cat(parts, dim=-1).double().numpy()
        gains = np.linalg.lstsq(stems.T, mixture.astype(np.float64), rcond=None)[0]
        scaled: npt.NDArray[np.float32] = (stems * gains[:, None]).astype(np.float32)
        return scaled


def matrix_products(config: SFIConvTasNetConfig, frames: int, dtype: torch.dtype) -> None:
    """Do the network's 1x1 convolutions as matrix products, and nothing else: the floor."""
    networks = len(config.sources) if config.trunk == "per-source" else 1
    tcn, features = config.tcn, config.num_filters
    masks = features * len(config.sources) // networks

    def product(outputs: int, inputs: int, times: int) -> None:
        weights = torch.randn(networks, outputs, inputs, dtype=dtype)
        signal = torch.randn(networks, inputs, frames, dtype=dtype)
        for _ in range(times):
            torch.bmm(weights, signal)

    layers = tcn.num_layers * tcn.num_stacks
    product(tcn.bottleneck_channels, features, 1)
    product(tcn.hidden_channels, tcn.bottleneck_channels, layers)
    product(2 * tcn.bottleneck_channels, tcn.hidden_channels, layers)
    product(masks, tcn.bottleneck_channels, 1)
