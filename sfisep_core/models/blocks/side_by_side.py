"""Independent parts of a computation, side by side on the cores of a CPU."""

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor

import torch
from torch import Tensor


def map_side_by_side(function: Callable[[Tensor], Tensor], parts: Sequence[Tensor]) -> list[Tensor]:
    """Call a function for every part, in threads that share the cores among them.

    Cores that work on parts of their own need not wait for each other after every operation: that
    is faster than to let them share each one, and keeps each part in one core's caches.

    Args:
        function: What to do with a part, without gradients. It sees the autocast of the caller.
        parts: Tensors on the CPU.

    Returns:
        What the function gave, in the order of the parts.
    """
    cores = torch.get_num_threads()
    workers = min(len(parts), cores)
    if workers < 2:
        return [function(part) for part in parts]
    enabled, kind = torch.is_autocast_enabled("cpu"), torch.get_autocast_dtype("cpu")

    def work(part: Tensor) -> Tensor:
        torch.set_num_threads(cores // workers)  # of this thread
        with torch.no_grad(), torch.autocast("cpu", dtype=kind, enabled=enabled):
            return function(part)

    try:
        with ThreadPoolExecutor(workers) as pool:
            return list(pool.map(work, parts))
    finally:
        torch.set_num_threads(cores)  # of threads that start later: they take the last number set
