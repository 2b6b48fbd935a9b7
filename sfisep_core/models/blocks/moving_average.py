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
    total = to_float64(pad(signal, (half + 1, half))).cumsum_(dim=-1)
    # The running sum at the window's end minus that before its start.
    sums = total[..., window:] - total[..., :-window]
    del total  # these arrays are among the largest of a separation
    before = torch.arange(frames, dtype=sums.dtype, device=sums.device)
    after = (frames - 1 - before).clamp_(max=half)
    count = before.clamp_(max=half).add_(after).add_(1)
    del after
    return sums.div_(count).to(signal.dtype).to(signal.device)
