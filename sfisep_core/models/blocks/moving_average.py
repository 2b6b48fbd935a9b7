"""Moving averages, at a cost that does not depend on the window."""

import torch
from torch import Tensor
from torch.nn.functional import pad

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
    total = pad(to_float64(signal), (half + 1, half)).cumsum(dim=-1)
    # The running sum at the window's end minus that before its start.
    sums = total[..., window:] - total[..., :-window]
    del total  # these arrays are the largest of a separation
    index = torch.arange(frames, dtype=sums.dtype, device=sums.device)
    count = index.clamp(max=half).add_(index.flip(0).clamp(max=half)).add_(1)
    return sums.div_(count).to(signal.dtype).to(signal.device)
