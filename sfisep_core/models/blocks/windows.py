"""Run a network for windows of one length on spectrograms of any."""

from collections.abc import Callable, Sequence
from itertools import pairwise

import torch
from torch import Tensor
from torch.nn.functional import fold, pad

from sfisep_core.errors import ConfigError


def run_windows(
    network: Callable[[Tensor], Tensor],
    magnitudes: Tensor,
    *,
    frames: int,
    overlap: int,
    multiple: int | None = None,
) -> Tensor:
    """Run a network for windows of one length on any number of frames.

    All windows are one batch. Each fades in and out linearly over the overlap (a triangle if the
    overlap is half a window or more). The sums are divided by those of the weights, so that a value
    on which all windows agree is unchanged, at both ends too. The last window is zero-padded to its
    full length or to `multiple`.

    Args:
        network: From (batch, channel, frames, bin) to (batch, source, channel, frames, bin).
        magnitudes: Shape (batch, channel, frame, bin), any number of frames from 0 on.
        frames: Length of a window <T>.
        overlap: Frames that adjacent windows share, 0 to frames - 1.
        multiple: The last window is padded only to a multiple of this, where the network takes
            shorter windows; None = all windows have one length.

    Returns:
        Shape (batch, source, channel, frame, bin).

    Raises:
        ConfigError: The overlap is out of range.
    """
    if not 0 <= overlap < frames:
        msg = f"windows: expected an overlap of 0 to {frames - 1} frames, got {overlap}"
        raise ConfigError(msg)
    length = magnitudes.shape[2]
    step = frames - overlap
    padded = frames + step * max(0, -(-(length - frames) // step))
    windows = pad(magnitudes, (0, 0, 0, padded - length)).unfold(2, frames, step)  # (B, C, W, F, T)
    windows = windows.permute(0, 2, 1, 4, 3)  # (B, W, C, T, F)
    needed = frames
    if multiple is not None:
        needed = min(frames, -(-(length - step * (windows.shape[1] - 1)) // multiple) * multiple)
    outputs = _run(network, windows, needed)
    joined = _cross_fade(outputs, overlap) if overlap <= step else _add_up(outputs, frames, overlap)
    return joined[..., :length, :]


def _cross_fade(outputs: Sequence[Tensor], overlap: int) -> Tensor:
    """Join windows, (B, S, C, T, F) each, of which no more than two overlap anywhere."""
    rise = torch.arange(1, overlap + 1, dtype=outputs[0].dtype, device=outputs[0].device)
    rise = (rise / (overlap + 1))[:, None]
    parts, start = [], 0
    for output, following in pairwise(outputs):
        end = output.shape[-2] - overlap
        fading = output[..., end:, :] * rise.flip(0) + following[..., :overlap, :] * rise
        parts += [output[..., start:end, :], fading]
        start = overlap
    return torch.cat([*parts, outputs[-1][..., start:, :]], dim=-2)


def _add_up(outputs: Sequence[Tensor], frames: int, overlap: int) -> Tensor:
    """Join windows, (B, S, C, T, F) each, of which any number overlap."""
    step = frames - overlap
    padded = frames + step * (len(outputs) - 1)
    whole = [pad(output, (0, 0, 0, frames - output.shape[-2])) for output in outputs]
    rise = torch.arange(1, frames + 1, dtype=whole[0].dtype, device=whole[0].device) / (overlap + 1)
    weights = torch.minimum(rise, rise.flip(0)).clamp(max=1.0)
    parts = torch.stack(whole, dim=-1).transpose(3, 4) * weights[:, None]  # (B, S, C, F, T, W)

    def add_up(columns: Tensor) -> Tensor:  # (N, K T, W) -> (N, K, frame)
        return fold(columns, (padded, 1), (frames, 1), stride=(step, 1)).squeeze(3)

    total = add_up(weights[None, :, None].expand(1, -1, parts.shape[-1]))  # (1, 1, frame)
    faded = add_up(parts.flatten(1, 4)) / total  # (B, S C F, frame)
    return faded.view(*parts.shape[:4], padded).transpose(-1, -2)


def _run(network: Callable[[Tensor], Tensor], windows: Tensor, needed: int) -> list[Tensor]:
    """Run windows of shape (B, W, C, T, F), the last for its first `needed` frames.

    Returns:
        The output of each window, (B, S, C, T, F); the last has the frames that it was run for.
    """
    batch, count, _, frames, _ = windows.shape
    if needed == frames:
        outputs = network(windows.flatten(0, 1))
        return list(outputs.view(batch, count, *outputs.shape[1:]).unbind(dim=1))
    last = network(windows[:, -1, :, :needed])
    return [last] if count == 1 else [*_run(network, windows[:, :-1], frames), last]
