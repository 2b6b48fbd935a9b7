"""SCNet written down as the paper's program computes it, one operation after the other.

It takes weights under the published names, and is what parity and speed are measured beside.
"""

import math
from collections.abc import Mapping
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional

from sfisep_core.models.blocks.scnet_bands import SCNetNetworkConfig


class PlainSCNet(nn.Module):
    """The published network on (batch, 4, bins, frames), an even number of frames."""

    def __init__(self, config: SCNetNetworkConfig, num_sources: int) -> None:
        super().__init__()
        sizes = (4, *config.channels)
        self.encoder = nn.ModuleList(
            _Encoder(config, given, size) for given, size in pairwise(sizes)
        )
        outputs = (4 * num_sources, *config.channels)
        self.decoder = nn.ModuleList(
            nn.Sequential(_Fusion(size), _Expansion(config, size, following))
            for following, size in reversed(list(pairwise(outputs)))
        )
        self.separation_net = nn.Module()
        self.separation_net.dp_modules = nn.ModuleList(
            _DualPath(config.channels[-1] * (1 + i % 2), config.expansion)
            for i in range(config.num_layers)
        )
        self.num_sources = num_sources

    def forward(self, parts: Tensor) -> Tensor:
        """Give (batch, source, 4, bins, frames)."""
        deviation, mean = torch.std_mean(parts, dim=(1, 2, 3), keepdim=True)
        x = (parts - mean) / (1e-5 + deviation)
        kept = []
        for encoder in self.encoder:
            x, skip, lengths, originals = encoder(x)
            kept.append((skip, lengths, originals))
        frames = x.shape[3]
        for i, layer in enumerate(self.separation_net.dp_modules):
            x = layer(x)
            if i % 2 == 0:
                spectrum = torch.fft.rfft(x, dim=3, norm="ortho")
                x = torch.cat([spectrum.real, spectrum.imag], dim=1)
            else:
                real, imag = x.chunk(2, dim=1)
                x = torch.fft.irfft(torch.complex(real, imag), n=frames, dim=3, norm="ortho")
        for fusion, expansion in self.decoder:
            skip, lengths, originals = kept.pop()
            x = expansion(fusion(x, skip), lengths, originals)
        x = x.unflatten(1, (self.num_sources, 4))
        return x * deviation.unsqueeze(1) + mean.unsqueeze(1)


class _Encoder(nn.Module):
    def __init__(self, config: SCNetNetworkConfig, given: int, size: int) -> None:
        super().__init__()
        self.SDlayer = _Compression(config, given, size)
        self.conv_modules = nn.ModuleList(
            _FrameBlocks(size, depth, config.compression) for depth in config.depths
        )
        self.globalconv = nn.Conv2d(size, size, 3, padding=1)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor, list[int], list[int]]:
        bands, originals = self.SDlayer(x)
        done = []
        for blocks, band in zip(self.conv_modules, bands, strict=True):
            batch, channels, bins, frames = band.shape
            rows = band.permute(0, 2, 1, 3).reshape(batch * bins, channels, frames)
            rows = blocks(rows).view(batch, bins, channels, frames).permute(0, 2, 1, 3)
            done.append(functional.gelu(rows))
        skip = torch.cat(done, dim=2)
        return self.globalconv(skip), skip, [band.shape[2] for band in done], originals


class _Compression(nn.Module):
    def __init__(self, config: SCNetNetworkConfig, given: int, size: int) -> None:
        super().__init__()
        self.config = config
        self.convs = nn.ModuleList(
            nn.Conv2d(given, size, (k, 1), (s, 1))
            for k, s in zip(config.kernel_sizes, config.strides, strict=True)
        )

    def forward(self, x: Tensor) -> tuple[list[Tensor], list[int]]:
        bins, (low, middle) = x.shape[2], self.config.band_shares
        ends = [0, math.ceil(bins * low), math.ceil(bins * (low + middle)), bins]
        outputs, lengths = [], []
        for i, convolution in enumerate(self.convs):
            band = x[:, :, ends[i] : ends[i + 1]]
            lengths.append(band.shape[2])
            k, s = self.config.kernel_sizes[i], self.config.strides[i]
            total = k - s if s == 1 else (s - band.shape[2] % s) % s
            outputs.append(
                convolution(functional.pad(band, (0, 0, total // 2, total - total // 2)))
            )
        return outputs, lengths


class _FrameBlocks(nn.Module):
    def __init__(self, size: int, depth: int, compression: int) -> None:
        super().__init__()
        inner = size // compression
        self.layers = nn.ModuleList(
            nn.Sequential(
                nn.GroupNorm(1, size),
                nn.Conv1d(size, 2 * inner, 3, padding=1),
                nn.GLU(1),
                nn.Conv1d(inner, inner, 3, padding=1, groups=inner),
                nn.GroupNorm(1, inner),
                nn.SiLU(),
                nn.Conv1d(inner, size, 1),
            )
            for _ in range(depth)
        )

    def forward(self, x: Tensor) -> Tensor:
        for layer in self.layers:
            x = x + layer(x)
        return x


class _DualPath(nn.Module):
    def __init__(self, size: int, expansion: int) -> None:
        super().__init__()
        hidden = size * expansion
        self.lstm_layers = nn.ModuleList(
            nn.LSTM(size, hidden, batch_first=True, bidirectional=True) for _ in range(2)
        )
        self.linear_layers = nn.ModuleList(nn.Linear(2 * hidden, size) for _ in range(2))
        self.norm_layers = nn.ModuleList(nn.GroupNorm(1, size) for _ in range(2))

    def forward(self, x: Tensor) -> Tensor:
        batch, channels, bins, frames = x.shape
        rows = self.norm_layers[0](x).transpose(1, 3).reshape(batch * frames, bins, channels)
        rows = self.linear_layers[0](self.lstm_layers[0](rows)[0])
        x = x + rows.view(batch, frames, bins, channels).transpose(1, 3)
        rows = self.norm_layers[1](x).permute(0, 2, 3, 1).reshape(batch * bins, frames, channels)
        rows = self.linear_layers[1](self.lstm_layers[1](rows)[0])
        return x + rows.view(batch, bins, frames, channels).permute(0, 3, 1, 2)


class _Fusion(nn.Module):
    def __init__(self, size: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(2 * size, 2 * size, 3, padding=1)

    def forward(self, x: Tensor, skip: Tensor) -> Tensor:
        return functional.glu(self.conv((x + skip).repeat(1, 2, 1, 1)), dim=1)


class _Expansion(nn.Module):
    def __init__(self, config: SCNetNetworkConfig, size: int, following: int) -> None:
        super().__init__()
        self.convtrs = nn.ModuleList(
            nn.ConvTranspose2d(size, following, (k, 1), (s, 1))
            for k, s in zip(config.kernel_sizes, config.strides, strict=True)
        )

    def forward(self, x: Tensor, lengths: list[int], originals: list[int]) -> Tensor:
        bands = []
        for convolution, band, original in zip(
            self.convtrs, x.split(lengths, dim=2), originals, strict=True
        ):
            output = convolution(band)
            first = abs(original - output.shape[2]) // 2
            bands.append(output[:, :, first : first + original])
        return torch.cat(bands, dim=2)


def plain_network(
    config: SCNetNetworkConfig, num_sources: int, state: Mapping[str, Tensor]
) -> PlainSCNet:
    """Build the network with published weights, in evaluation mode."""
    network = PlainSCNet(config, num_sources)
    network.load_state_dict(state)
    return network.eval()
