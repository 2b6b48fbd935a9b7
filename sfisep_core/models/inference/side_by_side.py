"""Channels, or other independent parts of a computation, in parallel on the cores of a CPU."""

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import torch
from torch import Tensor

from sfisep_core.models.contract import SeparationModel
from sfisep_core.models.inference.fused_tcn import FusedMaskNetwork
from sfisep_core.sfi.layers import SFIConv1d, SFIConvTranspose1d


def map_side_by_side(function: Callable[[Tensor], Tensor], parts: Sequence[Tensor]) -> list[Tensor]:
    """Call a function for every part, in threads that divide the cores among them.

    Cores that work on separate parts need not wait for each other after every operation. This is
    faster than splitting each operation over all cores, and keeps each part in one core's caches.

    Args:
        function: Called with a part, without gradients, under the caller's autocast settings.
        parts: Tensors on the CPU.

    Returns:
        Results of the function, in the order of the parts.
    """
    cores = torch.get_num_threads()
    workers = min(len(parts), cores)
    if workers < 2:
        return [function(part) for part in parts]
    enabled, kind = torch.is_autocast_enabled("cpu"), torch.get_autocast_dtype("cpu")

    def work(part: Tensor) -> Tensor:
        torch.set_num_threads(cores // workers)  # for this thread
        with torch.no_grad(), torch.autocast("cpu", dtype=kind, enabled=enabled):
            return function(part)

    try:
        with ThreadPoolExecutor(workers) as pool:
            return list(pool.map(work, parts))
    finally:
        torch.set_num_threads(cores)  # for threads that start later, which take the number set last


class ChannelsSideBySide(SeparationModel):
    """A model for inference whose channels are separated in parallel on CPUs.

    On other devices, and with gradients enabled, it behaves as the model itself.

    Args:
        model: A model that separates channels independently. It is not copied.
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
        """The base of the model; see `SeparationModel.base`."""
        return self.model.base

    def _prepare(self, sample_rate: int) -> None:
        """Compute in advance what each thread would otherwise compute for itself."""
        for module in self.model.modules():
            if isinstance(module, SFIConv1d | SFIConvTranspose1d):
                module.taps(sample_rate)
            elif isinstance(module, FusedMaskNetwork):
                module.prepare()

    def chunk_alignment(self, sample_rate: int) -> int:
        """Return the model's alignment; see `SeparationModel.chunk_alignment`."""
        return self.model.chunk_alignment(sample_rate)

    def compile_network(self, *, dynamic: bool | None = None) -> None:
        """Compile the model's network in place."""
        self.model.compile_network(dynamic=dynamic)
