"""Moving averages, at a cost that does not depend on the window."""

import torch
from torch import Tensor

from sfisep_core.foundation.float64 import to_float64


def moving_average(signal: Tensor, window: int) -> Tensor:
    """Average over the `window` samples around each one, as far as they exist.

    Running sums are in float64, since float32 would lose the quiet parts of a long signal.

    Args:
        signal: Shape (batch, channel, time).
        window: Samples, odd.

    Returns:
        Averages, same shape and dtype.

    >>> moving_average(torch.tensor([[[0.0, 3.0, 0.0, 0.0]]]), 3)
    tensor([[[1.5000, 1.0000, 1.0000, 0.0000]]])
    """
    if window == 1:
        return signal
    half, frames = window // 2, signal.shape[-1]
    # Gradients are in 64 bits too.
    total = to_float64(signal).cumsum(dim=-1)
    ahead, behind = min(half, frames), max(frames - half - 1, 0)
    last = total[..., -1:].expand(*total.shape[:-1], ahead)
    zeros = total.new_zeros(*total.shape[:-1], frames - behind)
    # The running sum at the window's end minus that before its start.
    sums = torch.cat([total[..., ahead:], last], dim=-1)
    sums = sums - torch.cat([zeros, total[..., :behind]], dim=-1)
    index = torch.arange(frames, device=total.device)
    count = (index + half).clamp(max=frames - 1) - (index - half).clamp(min=0) + 1
    return (sums / count).to(signal.dtype).to(signal.device)
