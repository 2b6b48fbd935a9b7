"""Models of some of the stems: the others are in the mixture that they hear."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from sfisep_core.errors import ConfigError
from sfisep_core.models.contract import SegmentRule
from sfisep_core.models.registry import build_model
from sfisep_core.models.sfi_conv_tasnet import SFIConvTasNet
from sfisep_core.models.super_resolved import SuperResolvedSeparator
from sfisep_core.training import loop, step
from tests.training.test_loop import TINY, data

__all__ = ["data"]  # the fixture

ONE: dict[str, Any] = {"sources": ["vocals"], "gain_rule": "least-squares"}


@pytest.mark.slow
def test_one_source_hears_the_whole_mixture(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    heard, mixed = [], []
    forward, mix_batch = SFIConvTasNet.forward, step.mix_batch

    def listening(self: SFIConvTasNet, mixture: Tensor, *, sample_rate: int) -> Tensor:
        if self.training:
            heard.append(mixture.detach().clone())
        return forward(self, mixture, sample_rate=sample_rate)

    def mixing(*arguments: Any, **settings: Any) -> Tensor:
        mixed.append(mix_batch(*arguments, **settings))
        return mixed[-1]

    monkeypatch.setattr(SFIConvTasNet, "forward", listening)
    monkeypatch.setattr(step, "mix_batch", mixing)
    config = replace(TINY, steps=2, epoch_steps=2, model={**TINY.model, **ONE})
    loop.train(config, data=data, out=tmp_path / "one", device="cpu")
    assert len(heard) == len(mixed) == 2
    for mixture, stems in zip(heard, mixed, strict=True):
        assert stems.shape[1] == 4
        assert torch.equal(mixture, stems.sum(dim=1))
        assert not torch.equal(mixture, stems[:, 0])
    events = [json.loads(line) for line in (tmp_path / "one/log.jsonl").read_text().splitlines()]
    (scores,) = [event["snr"]["4000"] for event in events if event["event"] == "validation"]
    assert list(scores) == ["vocals"]
    assert scores["vocals"] < 20  # of vocals alone, any gain would give them back


def test_some_sources_cannot_be_made_to_add_up(data: Path, tmp_path: Path) -> None:
    model = {**TINY.model, "sources": ["vocals", "drums"]}
    with pytest.raises(ConfigError, match="leaves out bass, other: set it to least-squares"):
        loop.train(replace(TINY, model=model), data=data, out=tmp_path, device="cpu")


def test_super_resolution_needs_sources_to_share_among() -> None:
    one = build_model("sfi-conv-tasnet", {**TINY.model, **ONE})
    with pytest.raises(ConfigError, match="got one of vocals alone"):
        SuperResolvedSeparator.around(one, low_rate=8000, restorer=None)


def test_lengths_of_segments_are_checked() -> None:
    for seconds, context in ((-1, 1.0), (1, -1.0), (1, float("nan")), (1, float("inf"))):
        with pytest.raises(ConfigError, match=r"^segment rule: .*seconds: expected 0 to .*, got"):
            SegmentRule(seconds=seconds, context_seconds=context, chunk_invariant=True)
    with pytest.raises(ConfigError, match="context_seconds: expected 0 to 600, got nan"):
        build_model("conv-tasnet", {"context_seconds": torch.nan})
