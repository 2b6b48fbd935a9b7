"""Dual-path transformers: attention within short chunks of frames, then across chunks.

Source: Luo, Chen and Yoshioka, "Dual-path RNN", ICASSP 2020 (chunks); Subakan, Ravanelli, Cornell,
Bronzi and Zhong, "Attention is all you need in speech separation", ICASSP 2021 (transformers).
"""

import math
from dataclasses import dataclass
from typing import Annotated

import torch
from torch import Tensor, nn
from torch.nn import functional

from sfisep_core.config_values import CheckedConfig, Range
from sfisep_core.errors import ConfigError
from sfisep_core.models.blocks.norms import GlobalNorm

_NORM_EPS = 1e-8  # of norms over a whole signal
_LAYER_NORM_EPS = 1e-6  # of norms of one frame


@dataclass(frozen=True)
class DualPathConfig(CheckedConfig):
    """Size of a dual-path transformer; the defaults are SepFormer's.

    Attributes:
        chunk_frames: Frames of a chunk <K>; chunks overlap by half.
        num_blocks: Number of blocks, each with layers within chunks and then across chunks.
        intra_layers: Layers of a block within chunks.
        inter_layers: Layers of a block across chunks.
        num_heads: Heads of the attention; their number divides the number of filters.
        hidden_features: Hidden features of a feed-forward part.
        inter_hidden_features: The same for the layers across chunks; None = as within chunks.

    Raises:
        ConfigError: A size is below 1, or the chunk length is odd.
    """

    section = "model setting network."

    chunk_frames: Annotated[int, Range(2, 65536, parity="even")] = 250
    num_blocks: Annotated[int, Range(1, 64)] = 2
    intra_layers: Annotated[int, Range(1, 64)] = 8
    inter_layers: Annotated[int, Range(1, 64)] = 8
    num_heads: Annotated[int, Range(1, 256)] = 8
    hidden_features: Annotated[int, Range(1, 65536)] = 1024
    inter_hidden_features: Annotated[int, Range(1, 65536)] | None = None


class DualPathNetwork(nn.Module):
    """From latent features to non-negative masks of every source.

    Args:
        config: Sizes.
        num_features: Channels of the latent <N>, an even multiple of the heads.
        num_sources: Sources <C>.

    Shape:
        - Input: (batch, num_features, frames), one frame or more
        - Output: (batch, num_sources, num_features, frames)

    Raises:
        ConfigError: The number of features is not an even multiple of the heads.
    """

    def __init__(self, config: DualPathConfig, *, num_features: int, num_sources: int) -> None:
        super().__init__()
        check_heads(config, num_features)
        self.num_sources = num_sources
        self.chunk_frames = config.chunk_frames
        self.norm = GlobalNorm(1, num_features, eps=_NORM_EPS)
        self.conv_in = nn.Conv1d(num_features, num_features, 1, bias=False)
        self.blocks = nn.ModuleList(
            DualPathBlock(config, num_features) for _ in range(config.num_blocks)
        )
        self.prelu = nn.PReLU()
        self.conv_sources = nn.Conv2d(num_features, num_sources * num_features, 1)
        self.value = nn.Conv1d(num_features, num_features, 1)
        self.gate = nn.Conv1d(num_features, num_features, 1)
        self.conv_out = nn.Conv1d(num_features, num_features, 1, bias=False)

    def forward(self, latent: Tensor) -> Tensor:
        """Estimate masks; see the class."""
        chunks = cut_chunks(self.conv_in(self.norm(latent)), self.chunk_frames)  # (B, N, S, K)
        for block in self.blocks:
            chunks = block(chunks)
        raw = self.conv_sources(self.prelu(chunks))  # (B, C N, S, K)
        raw = raw.unflatten(1, (self.num_sources, -1)).flatten(0, 1)  # (B C, N, S, K)
        features = join_chunks(raw, latent.shape[-1])  # (B C, N, frames)
        gated = torch.tanh(self.value(features)) * torch.sigmoid(self.gate(features))
        masks: Tensor = torch.relu(self.conv_out(gated))
        return masks.view(-1, self.num_sources, *latent.shape[1:])


class DualPathBlock(nn.Module):
    """Attention within chunks, then across chunks at each position.

    Shape:
        - Input and output: (batch, num_features, chunks, chunk_frames)
    """

    def __init__(self, config: DualPathConfig, num_features: int) -> None:
        super().__init__()
        within = config.hidden_features
        across = within if config.inter_hidden_features is None else config.inter_hidden_features
        self.intra = Transformer(config, num_features, config.intra_layers, within)
        self.intra_norm = GlobalNorm(1, num_features, eps=_NORM_EPS)
        self.inter = Transformer(config, num_features, config.inter_layers, across)
        self.inter_norm = GlobalNorm(1, num_features, eps=_NORM_EPS)

    def forward(self, chunks: Tensor) -> Tensor:
        """Run the block; see the class."""
        chunks = chunks + self.intra_norm(_along_last(self.intra, chunks))
        across = _along_last(self.inter, chunks.transpose(2, 3)).transpose(2, 3)
        features: Tensor = chunks + self.inter_norm(across)
        return features


class Transformer(nn.Module):
    """Attention layers over sequences of any length, with sinusoidal positions.

    Shape:
        - Input and output: (sequence, time, num_features)
    """

    def __init__(
        self, config: DualPathConfig, num_features: int, num_layers: int, hidden_features: int
    ) -> None:
        super().__init__()
        self.layers = nn.ModuleList(
            TransformerLayer(config, num_features, hidden_features) for _ in range(num_layers)
        )
        self.norm = nn.LayerNorm(num_features, eps=_LAYER_NORM_EPS)

    def forward(self, sequences: Tensor) -> Tensor:
        """Run the layers; see the class."""
        features = sequences + sinusoids(sequences)
        for layer in self.layers:
            features = layer(features)
        normal: Tensor = self.norm(features)
        return normal


class TransformerLayer(nn.Module):
    """Pre-norm self-attention and feed-forward part, each with a residual connection.

    Shape:
        - Input and output: (sequence, time, num_features)
    """

    def __init__(self, config: DualPathConfig, num_features: int, hidden_features: int) -> None:
        super().__init__()
        self.norm_1 = nn.LayerNorm(num_features, eps=_LAYER_NORM_EPS)
        self.attention = SelfAttention(num_features, config.num_heads)
        self.norm_2 = nn.LayerNorm(num_features, eps=_LAYER_NORM_EPS)
        self.feed_forward = nn.Sequential(
            nn.Linear(num_features, hidden_features),
            nn.ReLU(),
            nn.Linear(hidden_features, num_features),
        )

    def forward(self, sequences: Tensor) -> Tensor:
        """Run the layer; see the class."""
        sequences = sequences + self.attention(self.norm_1(sequences))
        features: Tensor = sequences + self.feed_forward(self.norm_2(sequences))
        return features


class SelfAttention(nn.Module):
    """Multi-head self-attention over all frames of a sequence.

    Shape:
        - Input and output: (sequence, time, num_features)
    """

    def __init__(self, num_features: int, num_heads: int) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.project = nn.Linear(num_features, 3 * num_features)  # queries, keys, values
        self.out = nn.Linear(num_features, num_features)

    def forward(self, sequences: Tensor) -> Tensor:
        """Compute attention; see the class."""
        heads = self.project(sequences).unflatten(-1, (3, self.num_heads, -1))
        query, key, value = heads.permute(2, 0, 3, 1, 4)  # (sequence, head, time, feature) each
        features = functional.scaled_dot_product_attention(query, key, value)
        mixed: Tensor = self.out(features.transpose(1, 2).flatten(2))
        return mixed


def check_heads(config: DualPathConfig, num_features: int) -> None:
    """Check that the features can be split evenly among the heads.

    Raises:
        ConfigError: They are not an even multiple of the heads.
    """
    if num_features % config.num_heads or num_features % 2:
        msg = (
            "dual path: expected num_filters to be an even multiple of num_heads = "
            f"{config.num_heads}, got {num_features}"
        )
        raise ConfigError(msg)


def sinusoids(sequences: Tensor) -> Tensor:
    """Compute sinusoidal positional encodings for any sequence length.

    Feature 2 i at position t is sin(t / 10000^(2 i / N)), feature 2 i + 1 its cosine.

    Args:
        sequences: Only the shape (sequence, time, features), dtype and device are used.

    Returns:
        Shape (time, features).
    """
    _, length, features = sequences.shape
    device = sequences.device
    places = torch.arange(length, device=device, dtype=torch.float32)
    exponents = torch.arange(0, features, 2, device=device, dtype=torch.float32) / features
    angles = torch.outer(places, torch.exp(-math.log(10000.0) * exponents))
    return torch.stack([angles.sin(), angles.cos()], dim=-1).flatten(1).to(sequences.dtype)


def cut_chunks(features: Tensor, size: int) -> Tensor:
    """Cut features into chunks that overlap by half, so that every frame is in two chunks.

    Args:
        features: Shape (batch, channel, frames).
        size: Frames of a chunk <K>, even.

    Returns:
        Shape (batch, channel, chunks, size), an even number of chunks. Zeros come before the first
        frame, size / 2 of them, and after the last, size / 2 and 1 to `size` more.
    """
    half = size // 2
    # Where no padding is needed it is `size`, as published: the norms include these zeros.
    gap = size - (half + features.shape[-1]) % size
    return functional.pad(features, (half, gap + half)).unfold(-1, size, half)


def join_chunks(chunks: Tensor, frames: int) -> Tensor:
    """Overlap-add the chunks of `cut_chunks`.

    Args:
        chunks: Shape (batch, channel, chunks, size).
        frames: Number of frames before cutting.

    Returns:
        Sums of the two values of every frame, shape (batch, channel, frames).
    """
    first, second = chunks.chunk(2, dim=-1)
    padded = functional.pad(first, (0, 0, 0, 1)) + functional.pad(second, (0, 0, 1, 0))
    half = chunks.shape[-1] // 2
    return padded.flatten(-2)[..., half : half + frames]


def _along_last(transformer: nn.Module, features: Tensor) -> Tensor:
    """Run a transformer along the last axis of (batch, feature, row, time)."""
    batch, _, rows, _ = features.shape
    sequences = features.permute(0, 2, 3, 1).flatten(0, 1)  # (batch row, time, feature)
    outputs: Tensor = transformer(sequences)
    return outputs.view(batch, rows, *outputs.shape[1:]).permute(0, 3, 1, 2)
