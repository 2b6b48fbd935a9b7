"""Dual-path transformers whose feed-forward parts use adjacent frames and chunks.

Source: Rixen and Renz, "SFSRNet: Super-resolution for single-channel audio source separation",
AAAI 2022.
"""

import torch
from torch import Tensor, nn

from sfisep_core.models.blocks.dual_path import (
    DualPathConfig,
    SelfAttention,
    check_heads,
    cut_chunks,
    join_chunks,
    sinusoids,
)


class StagedNetwork(nn.Module):
    """From latent features to non-negative masks of every source, one set after each block.

    All blocks share the layers that compute masks from features, so that every block has the same
    target. In training mode the masks of all blocks are returned, otherwise those of the last.

    Args:
        config: Sizes.
        num_features: Channels of the latent <N>, an even multiple of the heads.
        num_sources: Sources <C>.

    Shape:
        - Input: (batch, num_features, frames), one frame or more
        - Output: (batch, stage * num_sources, num_features, frames), the last stage last

    Raises:
        ConfigError: The number of features is not an even multiple of the heads.
    """

    def __init__(self, config: DualPathConfig, *, num_features: int, num_sources: int) -> None:
        super().__init__()
        check_heads(config, num_features)
        self.num_sources = num_sources
        self.chunk_frames = config.chunk_frames
        self.conv_in = nn.Conv1d(num_features, num_features, 1, bias=False)
        self.blocks = nn.ModuleList(
            ConvDualPathBlock(config, num_features) for _ in range(config.num_blocks)
        )
        self.prelu = nn.PReLU()
        self.conv_sources = nn.Conv2d(num_features, num_sources * num_features, 1)
        self.refine = nn.Sequential(_feed_forward(num_features), _feed_forward(num_features))

    def forward(self, latent: Tensor) -> Tensor:
        """Estimate masks; see the class."""
        chunks = cut_chunks(self.conv_in(latent), self.chunk_frames)  # (B, N, S, K)
        stages = []
        for block in self.blocks:
            chunks = block(chunks)
            if self.training:
                stages.append(self._masks(chunks, latent.shape[-1]))
        if not self.training:
            stages.append(self._masks(chunks, latent.shape[-1]))
        return torch.cat(stages, dim=1)

    def _masks(self, chunks: Tensor, frames: int) -> Tensor:
        raw = self.conv_sources(self.prelu(chunks))  # (B, C N, S, K)
        raw = raw.unflatten(1, (self.num_sources, -1)).flatten(0, 1)  # (B C, N, S, K)
        features = join_chunks(raw, frames).transpose(1, 2)  # (B C, frames, N)
        masks: Tensor = torch.relu(self.refine(features)).transpose(1, 2)
        return masks.reshape(-1, self.num_sources, *masks.shape[1:])


class ConvDualPathBlock(nn.Module):
    """Attention within chunks, then across chunks at each position.

    Shape:
        - Input and output: (batch, num_features, chunks, chunk_frames)
    """

    def __init__(self, config: DualPathConfig, num_features: int) -> None:
        super().__init__()
        self.intra = ConvTransformer(config, num_features, config.intra_layers)
        self.inter = ConvTransformer(config, num_features, config.inter_layers)

    def forward(self, chunks: Tensor) -> Tensor:
        """Run the block; see the class."""
        planes = self.intra(chunks.permute(0, 2, 3, 1)).transpose(1, 2)
        features: Tensor = self.inter(planes).permute(0, 3, 2, 1)
        return features


class ConvTransformer(nn.Module):
    """Attention layers along time with sinusoidal positions and a residual connection.

    Shape:
        - Input and output: (batch, row, time, num_features)
    """

    def __init__(self, config: DualPathConfig, num_features: int, num_layers: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            *(
                ConvTransformerLayer(num_features, config.num_heads, config.hidden_features)
                for _ in range(num_layers)
            )
        )

    def forward(self, planes: Tensor) -> Tensor:
        """Run the layers; see the class."""
        features: Tensor = planes + self.layers(planes + sinusoids(planes.flatten(0, 1)))
        return features


class ConvTransformerLayer(nn.Module):
    """Self-attention along time, and a feed-forward part whose second step is a 3 x 3 convolution.

    Args:
        num_features: Channels.
        num_heads: Heads of the attention.
        hidden_features: Channels inside the feed-forward part.

    Shape:
        - Input and output: (batch, row, time, num_features)
    """

    def __init__(self, num_features: int, num_heads: int, hidden_features: int) -> None:
        super().__init__()
        self.norm_1 = nn.LayerNorm(num_features)
        self.attention = SelfAttention(num_features, num_heads)
        self.norm_2 = nn.LayerNorm(num_features)
        self.widen = nn.Linear(num_features, hidden_features)
        self.conv = nn.Conv2d(hidden_features, num_features, 3, padding=1)

    def forward(self, planes: Tensor) -> Tensor:
        """Run the layer; see the class."""
        attended = self.attention(self.norm_1(planes).flatten(0, 1))
        planes = planes + attended.view_as(planes)
        hidden = torch.relu(self.widen(self.norm_2(planes)))
        features: Tensor = planes + self.conv(hidden.permute(0, 3, 1, 2)).permute(0, 2, 3, 1)
        return features


def _feed_forward(num_features: int) -> nn.Sequential:
    hidden = 4 * num_features
    return nn.Sequential(
        nn.Linear(num_features, hidden), nn.ReLU(), nn.Linear(hidden, num_features)
    )
