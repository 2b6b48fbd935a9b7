"""Recordings of any number of channels for networks that take one or two."""

from collections.abc import Callable

import torch
from torch import Tensor


def separate_in_groups(
    mixtures: Tensor, separate: Callable[[Tensor], Tensor], *, channels: int
) -> Tensor:
    """Run a network on channels one by one or in pairs (0 and 1, 2 and 3, ...).

    A last channel without a partner is passed twice, and the two results are averaged.

    Args:
        mixtures: Shape (batch, channel, ...), any number of channels.
        separate: From (group, channels, ...) to (group, source, channels, ...).
        channels: Number of channels that the network takes, 1 or 2.

    Returns:
        Sources, shape (batch, source, channel, ...).
    """
    batch, count, *size = mixtures.shape
    lone = channels == 2 and count % 2 == 1
    if lone:
        mixtures = torch.cat([mixtures, mixtures[:, -1:]], dim=1)
    sources = separate(mixtures.reshape(-1, channels, *size))
    sources = sources.reshape(batch, -1, sources.shape[1], channels, *size)
    sources = sources.transpose(1, 2).flatten(2, 3)  # (batch, source, channel, ...)
    if lone:
        last = sources[:, :, -2:].mean(dim=2, keepdim=True)
        sources = torch.cat([sources[:, :, :-2], last], dim=2)
    return sources
