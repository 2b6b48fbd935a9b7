"""Initial weights of a network for drums, bass and other, from Spleeter's for the accompaniment."""

from collections.abc import Mapping
from dataclasses import replace

import torch
from torch import Tensor

from sfisep_core.models.blocks.doubling import KERNEL
from sfisep_core.models.spleeter import SpleeterConfig

# Channels before the last convolution, and by how much they differ at first.
_HEAD_CHANNELS, _HEAD_CHANGE = 16, 0.5
# Most channels between encoder and decoder. Published are 512; with 128 trained networks score the
# same (docs/reference/variants.md).
_BOTTLENECK = 128
_NETWORK = "network.networks.0."


def instrumental_config(config: SpleeterConfig) -> SpleeterConfig:
    """Derive the settings of a network for three stems from those of the model of two stems."""
    channels = config.network.channels
    return replace(
        config,
        sources=("drums", "bass", "other"),
        network=replace(
            config.network,
            channels=(*channels[:-1], min(channels[-1], _BOTTLENECK, KERNEL**2 * channels[-2])),
            last_channels=_HEAD_CHANNELS,
            dropout=0.0,
            fixed_norms=True,
        ),
        masks="joint",
        above="top-band",
    )


def instrumental_weights(state: Mapping[str, Tensor], config: SpleeterConfig) -> dict[str, Tensor]:
    """Derive initial weights for several stems from those of a network for one.

    Args:
        state: Weights of a model with one network, by name.
        config: Settings of the model to initialise, as from `instrumental_config`.

    Returns:
        Its weights: a head of its own, whose masks begin almost equal, and the narrower bottleneck.
    """
    last = f"{_NETWORK}unet.decoders.{len(config.network.channels) - 2}."
    channels = config.network.channels[-1]
    return _with_narrow_bottleneck(_with_head(state, last, len(config.sources)), channels)


def _with_head(state: Mapping[str, Tensor], last: str, count: int) -> dict[str, Tensor]:
    """Replace the last layers of a network for one source by those for several.

    The channels of the last decoder begin as the published one, each with other small changes.
    """
    random = torch.Generator().manual_seed(0)
    head = dict(state)
    for name in (name for name in state if name.startswith(last)):
        value = state[name]
        if value.dim() > 0:
            axis = 1 if value.dim() > 1 else 0
            value = value.repeat_interleave(_HEAD_CHANNELS, dim=axis)
        if value.dim() > 1:
            change = torch.randn(value.shape, generator=random)
            value = value + _HEAD_CHANGE * value.std() * change
        head[name] = value
    kernel = state[f"{_NETWORK}last.weight"]
    shape = (2 * count, _HEAD_CHANNELS, *kernel.shape[2:])
    head[f"{_NETWORK}last.weight"] = 0.01 * torch.randn(shape, generator=random)
    head[f"{_NETWORK}last.bias"] = torch.zeros(shape[0])
    return head


def _with_narrow_bottleneck(state: Mapping[str, Tensor], channels: int) -> dict[str, Tensor]:
    """Approximate the two innermost convolutions by two with fewer channels between them.

    Nothing else lies between them. So both kernels together are one matrix, from the input values
    that the first sees to the output values that the second writes. Its best approximation of a
    lower rank is its truncated singular value decomposition.
    """
    middle = f"{_NETWORK}unet.middle."
    names = ("down.convolution.weight", "down.convolution.bias", "up.convolution.weight")
    encoder, bias, decoder = (state[middle + name].double() for name in names)
    if channels == len(encoder):
        return dict(state)
    # The bias is the kernel of one more input value, which is always 1.
    inputs = torch.cat([encoder.flatten(1), bias[:, None]], dim=1)
    (into, into_mixed), (out, out_mixed) = map(torch.linalg.qr, (inputs.T, decoder.flatten(1).T))
    left, sizes, right = torch.linalg.svd(out_mixed @ into_mixed.T, full_matrices=False)
    shares = sizes.sqrt()[:channels, None]  # of both kernels in the singular values
    into, out = shares * (right @ into.T)[:channels], shares * (out @ left).T[:channels]
    kernels = (
        into[:, :-1].unflatten(1, encoder.shape[1:]),
        into[:, -1],
        out.unflatten(1, decoder.shape[1:]),
    )
    narrow = {middle + name: kernel for name, kernel in zip(names, kernels, strict=True)}
    return {**state, **{name: kernel.float().contiguous() for name, kernel in narrow.items()}}
