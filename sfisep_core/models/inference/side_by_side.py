"""Channels, or other independent parts of a computation, side by side on the cores of a CPU."""

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import torch
from torch import Tensor

from sfisep_core.models.contract import SeparationModel
from sfisep_core.models.inference.fused_tcn import FusedMaskNetwork
from sfisep_core.sfi.layers import SFIConv1d, SFIConvTranspose1d


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


class ChannelsSideBySide(SeparationModel):
    """A model for inference whose channels are separated side by side on CPUs.

    Elsewhere, and where gradients flow, it is the model itself.

    Args:
        model: One that separates each channel on its own. It is not copied.
    """

    def __init__(self, model: SeparationModel) -> None:
        super().__init__()
        self.model = model
        self.family = model.family  # type: ignore[misc]
        self.config = model.config
        self.sources = model.sources
        self.native_rate = model.native_rate
        self.gain_rule = model.gain_rule
        self.normalizes_level = model.normalizes_level
        self.segments = model.segments
        self.train(model.training)

    def forward(self, mixture: Tensor, *, sample_rate: int) -> Tensor:
        """Separate a mixture; see `SeparationModel.forward`."""
        separate: partial[Tensor] = partial(self.model, sample_rate=sample_rate)
        if mixture.device.type != "cpu" or torch.is_grad_enabled() or mixture.numel() == 0:
            return separate(mixture)
        self._prepare(sample_rate)
        batch, channels, length = mixture.shape
        parts = mixture.reshape(batch * channels, 1, 1, length).unbind()
        stems = torch.cat(map_side_by_side(separate, parts))  # (B C, S, 1, T)
        return stems.view(batch, channels, -1, length).transpose(1, 2)

    @property
    def base(self) -> SeparationModel | None:
        """The model's own; see `SeparationModel.base`."""
        return self.model.base

    def _prepare(self, sample_rate: int) -> None:
        """Make what threads would otherwise make once each."""
        for module in self.model.modules():
            if isinstance(module, SFIConv1d | SFIConvTranspose1d):
                module.taps(sample_rate)
            elif isinstance(module, FusedMaskNetwork):
                module.prepare()

    def chunk_alignment(self, sample_rate: int) -> int:
        """Compute the model's own; see `SeparationModel.chunk_alignment`."""
        return self.model.chunk_alignment(sample_rate)

    def compile_network(self, *, dynamic: bool | None = None) -> None:
        """Compile the model's network in place."""
        self.model.compile_network(dynamic=dynamic)
