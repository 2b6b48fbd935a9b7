from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from sfisep_core.data.mixing import MixingConfig
from sfisep_core.errors import DatasetError
from sfisep_core.training import validation
from sfisep_core.training.validation import validate


class Halves(nn.Module):
    """Gives half of the mixture as both stems."""

    sources = ("vocals", "bass")

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.tensor(0.5))

    def forward(self, mixture: Tensor, *, sample_rate: int) -> Tensor:
        del sample_rate
        return torch.stack([self.weight * mixture] * 2, dim=1)


@pytest.fixture
def score(monkeypatch: pytest.MonkeyPatch) -> Callable[[Tensor, Any], Any]:
    """Score a model on two excerpts, both of the given stems."""

    def run(stems: Tensor, model: Any) -> Any:
        def draw(*_: object, **__: object) -> tuple[Tensor, int]:
            return stems, 4000

        monkeypatch.setattr(validation, "draw_batch", draw)
        dataset: Any = SimpleNamespace(folder=Path("data"))
        return validate(model, dataset, MixingConfig(), excerpts=2, sample_rates=(4000,))

    return run


def test_source_that_never_plays_has_no_score(score: Callable[[Tensor, Any], Any]) -> None:
    class Cleaner(Halves):
        def forward(self, mixture: Tensor, *, sample_rate: int) -> Tensor:
            stems = super().forward(mixture, sample_rate=sample_rate)
            stems[:, 0, :, 1::2] *= 0.1  # 20 dB less of what is not vocals
            return stems

    stems = torch.zeros(1, 2, 1, 4000)
    stems[0, 0, 0, ::2] = 1.0
    noise = torch.zeros_like(stems)
    noise[0, 1, 0, 1::2] = 1.0
    both = score(stems + noise, Cleaner())
    # The bass is half of the mixture: as far from it as the mixture.
    assert both.by_rate[4000] == pytest.approx({"vocals": 20.0, "bass": 0.0}, abs=1e-3)
    assert both.mean == pytest.approx(10.0, abs=1e-3)
    alone = score(stems + 1e-3 * noise, Cleaner())
    assert alone.by_rate[4000] == pytest.approx({"vocals": 20.0}, abs=1e-2)
    assert alone.mean == alone.by_rate[4000]["vocals"]


def test_silence_has_no_score(score: Callable[[Tensor, Any], Any]) -> None:
    with pytest.raises(DatasetError, match=r"^data set data: .* found silence in all 2: "):
        score(torch.zeros(1, 2, 1, 4000), Halves())
