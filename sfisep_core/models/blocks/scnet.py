"""The network of SCNet: bands of bins that are compressed the more the higher they lie.

Source: Tong, Zhu, Chen, Kang, Jiang, Li, Wu and Meng, "SCNet: sparse compression network for music
source separation", ICASSP 2024, and its program (starrytong/SCNet, MIT).
"""

from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional

from sfisep_core.models.blocks.dual_path_rnn import ChannelsLastNorm, DualPathLayer
from sfisep_core.models.blocks.scnet_bands import BandPlan, SCNetNetworkConfig, plan_bands

_KERNEL_FRAMES = 3


class SCNetNetwork(nn.Module):
    """From the parts of a stereo spectrum to those of each source's.

    Args:
        config: Settings.
        num_bins: Bins of the spectra.
        num_parts: Real numbers of a bin: 2 for each channel.
        num_sources: How many sources there are.

    Raises:
        ConfigError: There are so few bins that a band would be empty.

    Shape:
        - Input: (batch, num_parts, num_bins, frames), an even number of frames
        - Output: (batch, num_sources, num_parts, num_bins, frames)
    """

    def __init__(
        self, config: SCNetNetworkConfig, *, num_bins: int, num_parts: int, num_sources: int
    ) -> None:
        super().__init__()
        plans = plan_bands(config, num_bins)
        sizes = (num_parts, *config.channels)
        self.encoder = nn.ModuleList(
            _Encoder(config, size, following, plan)
            for (size, following), plan in zip(pairwise(sizes), plans, strict=True)
        )
        self.layers = nn.ModuleList(
            DualPathLayer(config.channels[-1] * (1 + place % 2), config.expansion)
            for place in range(config.num_layers)
        )
        outputs = (num_parts * num_sources, *config.channels)
        self.decoder = nn.ModuleList(
            _Decoder(config, size, following, plan)
            for (following, size), plan in reversed(
                list(zip(pairwise(outputs), plans, strict=True))
            )
        )
        self._num_sources = num_sources

    def forward(self, parts: Tensor) -> Tensor:
        """Estimate; see the class."""
        # Channels lie next to each other in memory: convolutions of few channels and a kernel along
        # one axis are 1.3 to 8 times as fast so on CPUs, and LSTMs take features as they lie.
        features, skips = parts.contiguous(memory_format=torch.channels_last), []
        for encoder in self.encoder:
            features, skip = encoder(features)
            skips.append(skip)
        features = self._mix(features)
        for decoder in self.decoder:
            features = decoder(features, skips.pop())
        batch, _, *size = features.shape
        return features.reshape(batch, self._num_sources, -1, *size)

    def _mix(self, features: Tensor) -> Tensor:
        """Run the dual-path layers on (batch, channel, bins, frames)."""
        frames = features.shape[-1]
        features = features.permute(0, 2, 3, 1)
        for place, layer in enumerate(self.layers):
            features = layer(features)
            # A transform along frames lets the next layer hear how features change in time.
            with torch.autocast(features.device.type, enabled=False):
                features = features.float()
                if place % 2 == 0:
                    spectra = torch.fft.rfft(features, dim=2, norm="ortho")
                    features = torch.cat([spectra.real, spectra.imag], dim=-1)
                else:
                    real, imag = features.chunk(2, dim=-1)
                    spectra = torch.complex(real.contiguous(), imag.contiguous())
                    features = torch.fft.irfft(spectra, n=frames, dim=2, norm="ortho")
        return features.permute(0, 3, 1, 2)


class _Encoder(nn.Module):
    """Compress each band, mix its frames, and join the bands.

    Shape:
        - Input: (batch, num_inputs, bins, frames)
        - Output: two of (batch, num_outputs, compressed bins, frames): features and the skip
    """

    def __init__(
        self, config: SCNetNetworkConfig, num_inputs: int, num_outputs: int, plan: BandPlan
    ) -> None:
        super().__init__()
        self._plan = plan
        self.compressions = nn.ModuleList(
            nn.Conv2d(num_inputs, num_outputs, (kernel_size, 1), (stride, 1))
            for kernel_size, stride in zip(config.kernel_sizes, config.strides, strict=True)
        )
        self.bands = nn.ModuleList(
            nn.Sequential(*(_FrameBlock(num_outputs, config.compression) for _ in range(depth)))
            for depth in config.depths
        )
        self.convolution = nn.Conv2d(num_outputs, num_outputs, 3, padding=1)

    def forward(self, features: Tensor) -> tuple[Tensor, Tensor]:
        """Compress; see the class."""
        found = []
        bands = torch.split(features, list(self._plan.bins), dim=2)
        for band, padding, compression, blocks in zip(
            bands, self._plan.paddings, self.compressions, self.bands, strict=True
        ):
            compressed = compression(functional.pad(band, (0, 0, *padding)))
            found.append(functional.gelu(blocks(compressed)))
        skip = torch.cat(found, dim=2)
        return self.convolution(skip), skip


class _FrameBlock(nn.Module):
    """Mix each bin's frames with their neighbours, beside what is given.

    Shape:
        - Input and output: (batch, channels, bins, frames)
    """

    def __init__(self, channels: int, compression: int) -> None:
        super().__init__()
        inner = channels // compression
        kernel_size, padding = (1, _KERNEL_FRAMES), (0, _KERNEL_FRAMES // 2)
        self.norm = _BinNorm(channels, num_axes=2)
        self.convolution = nn.Conv2d(channels, 2 * inner, kernel_size, padding=padding)
        self.depthwise = nn.Conv2d(inner, inner, kernel_size, padding=padding, groups=inner)
        self.inner_norm = _BinNorm(inner, num_axes=2)
        self.output = nn.Conv2d(inner, channels, 1)

    def forward(self, features: Tensor) -> Tensor:
        """Mix; see the class."""
        inner = functional.glu(self.convolution(self.norm(features)), dim=1)
        inner = functional.silu(self.inner_norm(self.depthwise(inner)))
        mixed: Tensor = features + self.output(inner)
        return mixed


class _BinNorm(ChannelsLastNorm):
    """A norm of each bin by the statistics of all its channels and frames.

    Shape:
        - Input and output: (batch, channels, bins, frames)
    """

    def forward(self, features: Tensor) -> Tensor:
        """Normalise; see the class."""
        return super().forward(features.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)


class _Decoder(nn.Module):
    """Fuse features with the skip of the encoder block, and expand each band.

    Shape:
        - Input: two of (batch, num_inputs, compressed bins, frames): features and the skip
        - Output: (batch, num_outputs, bins, frames)
    """

    def __init__(
        self, config: SCNetNetworkConfig, num_inputs: int, num_outputs: int, plan: BandPlan
    ) -> None:
        super().__init__()
        self._plan = plan
        self.fusion = nn.Conv2d(2 * num_inputs, 2 * num_inputs, 3, padding=1)
        self.expansions = nn.ModuleList(
            nn.ConvTranspose2d(num_inputs, num_outputs, (kernel_size, 1), (stride, 1))
            for kernel_size, stride in zip(config.kernel_sizes, config.strides, strict=True)
        )

    def forward(self, features: Tensor, skip: Tensor) -> Tensor:
        """Fuse and expand; see the class."""
        # As published the sum is given to the convolution twice, side by side. Both halves of its
        # kernels then act on the same: their sum does that with half of the products.
        kernels = sum(self.fusion.weight.chunk(2, dim=1))
        assert isinstance(kernels, Tensor)
        fused = functional.conv2d(features + skip, kernels, self.fusion.bias, padding=1)
        bands = torch.split(functional.glu(fused, dim=1), list(self._plan.compressed), dim=2)
        expanded = []
        for band, bins, expansion in zip(bands, self._plan.bins, self.expansions, strict=True):
            found = expansion(band)
            first = abs(found.shape[2] - bins) // 2
            expanded.append(found[:, :, first : first + bins])
        return torch.cat(expanded, dim=2)
