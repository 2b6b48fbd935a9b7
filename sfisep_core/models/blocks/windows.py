"""Run a network for windows of one length on spectrograms of any."""

from collections.abc import Callable

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
    batch, _, length, _ = magnitudes.shape
    step = frames - overlap
    padded = frames + step * max(0, -(-(length - frames) // step))
    windows = pad(magnitudes, (0, 0, 0, padded - length)).unfold(2, frames, step)  # (B, C, W, F, T)
    windows = windows.permute(0, 2, 1, 4, 3)  # (B, W, C, T, F)
    needed = frames
    if multiple is not None:
        needed = min(frames, -(-(length - step * (windows.shape[1] - 1)) // multiple) * multiple)
    outputs = _run(network, windows, needed).flatten(0, 1)  # (B W, S, C, T, F)
    rise = torch.arange(1, frames + 1, dtype=outputs.dtype, device=outputs.device) / (overlap + 1)
    weights = torch.minimum(rise, rise.flip(0)).clamp(max=1.0)
    parts = (outputs * weights[:, None]).view(batch, windows.shape[1], *outputs.shape[1:])
    parts = parts.permute(0, 2, 3, 5, 4, 1)  # (B, S, C, F, T, W)

    def add_up(columns: Tensor) -> Tensor:  # (N, K T, W) -> (N, K, frame)
        return fold(columns, (padded, 1), (frames, 1), stride=(step, 1)).squeeze(3)

    total = add_up(weights[None, :, None].expand(1, -1, parts.shape[-1]))  # (1, 1, frame)
    faded = add_up(parts.flatten(1, 4)) / total  # (B, S C F, frame)
    return faded.view(*parts.shape[:4], padded)[..., :length].transpose(-1, -2)


def _run(network: Callable[[Tensor], Tensor], windows: Tensor, needed: int) -> Tensor:
    """Run windows of shape (B, W, C, T, F), the last for its first `needed` frames."""
    batch, count, _, frames, _ = windows.shape
    if needed == frames:
        outputs = network(windows.flatten(0, 1))
        return outputs.view(batch, count, *outputs.shape[1:])
    last = network(windows[:, -1, :, :needed])  # (B, S, C, needed, F)
    last = pad(last, (0, 0, 0, frames - needed)).unsqueeze(1)
    if count == 1:
        return last
    return torch.cat([_run(network, windows[:, :-1], frames), last], dim=1)
