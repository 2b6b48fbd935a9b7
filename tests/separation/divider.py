"""A separator with a known answer, and signals for it."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from sfisep_core.audio.stores import MemoryStore, read_all
from sfisep_core.models.contract import GainRule, SegmentRule, SeparationModel
from sfisep_core.separation.methods import separate_signal
from sfisep_core.separation.settings import Progress, SeparationSettings

Samples = npt.NDArray[np.float32]
SHARES = (0.75, 0.25)


class Divider(SeparationModel):
    """Give every stem its share of the mixture, and note what the model is given."""

    family = "divider"

    def __init__(
        self,
        *,
        shares: Sequence[float] = SHARES,
        gain_rule: GainRule = "mixture-consistent",
        normalizes_level: bool = False,
        invariant: bool = True,
        alignment: int = 1,
        context_seconds: int = 1,
    ) -> None:
        super().__init__()
        self.config = None
        self.sources = tuple(f"stem {number}" for number in range(len(shares)))
        self.native_rate = 8000
        self.gain_rule = gain_rule
        self.normalizes_level = normalizes_level
        self.segments = SegmentRule(
            seconds=2, context_seconds=context_seconds, chunk_invariant=invariant
        )
        self.shares = nn.Parameter(torch.tensor(shares))
        self.alignment = alignment
        self.heard: list[Tensor] = []
        self.rates: list[int] = []

    def forward(self, mixture: Tensor, *, sample_rate: int) -> Tensor:
        self.heard.append(mixture.clone())
        self.rates.append(sample_rate)
        return self.shares[:, None, None] * mixture.unsqueeze(1)

    def chunk_alignment(self, sample_rate: int) -> int:
        del sample_rate
        return self.alignment


def separated(
    model: SeparationModel,
    mixture: Samples,
    *,
    sample_rate: int,
    progress: Progress | None = None,
    **settings: Any,
) -> Samples:
    """Separate an array by the one function for signals; the others are fields of its settings."""
    stems = separate_signal(
        model,
        MemoryStore(mixture),
        sample_rate=sample_rate,
        settings=SeparationSettings(**settings),
        progress=progress,
    )
    return read_all(stems)


def noise(*shape: int, seed: int = 0) -> Samples:
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def decibels(error: npt.NDArray[np.floating], signal: npt.NDArray[np.floating]) -> float:
    power = np.square(error, dtype=np.float64).sum() / np.square(signal, dtype=np.float64).sum()
    return float(10 * np.log10(max(power, 1e-30)))
