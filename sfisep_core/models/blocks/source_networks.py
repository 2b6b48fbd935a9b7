"""One network per source, or one network conditioned on the target source."""

from collections.abc import Callable

import torch
from torch import Tensor, nn


class SourceNetworks(nn.Module):
    """Estimates of all sources from the features of a mixture.

    Args:
        make: Builds a network with initial weights; it takes features, or features and conditions.
        num_sources: Number of sources.
        conditions: The condition for each source, shape (source, ...), of a single conditioned
            network. None = every source has a network of its own.

    Shape:
        - Input: (batch, ...)
        - Output: (batch, source, ...)
    """

    conditions: Tensor | None

    def __init__(
        self, make: Callable[[], nn.Module], num_sources: int, conditions: Tensor | None = None
    ) -> None:
        super().__init__()
        count = num_sources if conditions is None else 1
        self.networks = nn.ModuleList(make() for _ in range(count))
        self.register_buffer("conditions", conditions, persistent=False)

    def forward(self, features: Tensor) -> Tensor:
        """Estimate; see the class."""
        if self.conditions is None:
            return torch.stack([network(features) for network in self.networks], dim=1)
        # All sources of a mixture are one batch. So every training batch holds all conditions.
        told = self.conditions.repeat(len(features), *[1] * (self.conditions.dim() - 1))
        repeated = features.repeat_interleave(len(self.conditions), dim=0)
        outputs: Tensor = self.networks[0](repeated, told)
        return outputs.view(len(features), len(self.conditions), *outputs.shape[1:])
