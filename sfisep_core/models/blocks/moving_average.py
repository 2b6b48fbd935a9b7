"""Averages over a sliding window, in time that does not depend on the window."""

import torch
from torch import Tensor
from torch.nn import functional


def moving_average(signal: Tensor, window: int) -> Tensor:
    """Average over the `window` samples around each one, of those that exist.

    Running sums are kept in float64: float32 ones would lose the quiet parts of a long signal.

    Args:
        signal: Shape (batch, channel, time).
        window: Samples, odd.

    Returns:
        Averages, same shape and dtype.

    >>> moving_average(torch.tensor([[[0.0, 3.0, 0.0, 0.0]]]), 3)
    tensor([[[1.5000, 1.0000, 1.0000, 0.0000]]])
    """
    half = window // 2
    total = functional.pad(signal.double().cumsum(dim=-1), (1, 0))
    total = functional.pad(total, (half, half), mode="replicate")
    index = torch.arange(signal.shape[-1], device=signal.device)
    last = signal.shape[-1] - 1
    count = (index + half).clamp(max=last) - (index - half).clamp(min=0) + 1
    return ((total[..., window:] - total[..., :-window]) / count).to(signal.dtype)
