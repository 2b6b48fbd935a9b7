from pathlib import Path

import numpy as np
import pytest
import torch

from sfisep_core.data.datasets import StemDataset
from sfisep_core.errors import ConfigError
from sfisep_core.evaluation.examples import make_examples, plan_excerpts
from sfisep_core.evaluation.resampling_study import (
    ResamplingRequest,
    compare_resampling,
    make_study,
)
from sfisep_core.evaluation.scored_stems import as_scored, scored_stems
from sfisep_core.models.registry import build_model
from sfisep_core.pretrained.identity import identify_model
from sfisep_core.pretrained.model_files import load_model, save_model

FOUR = ("vocals", "drums", "bass", "other")
FIVE = ("vocals", "piano", "drums", "bass", "other")
TWO = ("vocals", "accompaniment")


@pytest.mark.parametrize(
    ("sources", "stems", "expected"),
    [
        (FOUR, FOUR, FOUR),
        (("vocals",), FOUR, FOUR),
        (TWO, FOUR, TWO),
        (("instrumental", "vocals"), FOUR, ("vocals", "instrumental")),
        (FIVE, FOUR, FOUR),
        (FOUR, TWO, TWO),
        (FIVE, TWO, TWO),
        (("drums", "other"), FOUR, FOUR),
        (("s1", "s2"), ("s1", "s2"), ("s1", "s2")),
    ],
)
def test_what_is_scored(
    sources: tuple[str, ...], stems: tuple[str, ...], expected: tuple[str, ...]
) -> None:
    assert scored_stems(sources, stems, where="model x") == expected


@pytest.mark.parametrize(
    ("sources", "stems"),
    [
        (("speech", "noise"), FOUR),
        (("vocals", "piano"), FOUR),  # nothing is said of what else there is
        (("vocals", "accompaniment"), ("vocals",)),
        (("s1", "s2"), FOUR),
        (("s1", "s2"), ("s1", "s2", "s3")),
    ],
)
def test_what_has_nothing_in_common_is_refused(
    sources: tuple[str, ...], stems: tuple[str, ...]
) -> None:
    with pytest.raises(ConfigError, match="model x: expected stems of the data set"):
        scored_stems(sources, stems, where="model x")


def test_estimates_of_what_is_not_scored_are_added_to_the_rest() -> None:
    estimates = {name: np.full((1, 3), 2.0**i, np.float32) for i, name in enumerate(FIVE)}
    found = as_scored(estimates, FOUR)
    assert {name: value[0, 0] for name, value in found.items()} == {
        "vocals": 1,
        "drums": 4,
        "bass": 8,
        "other": 16 + 2,
    }
    found = as_scored(estimates, TWO)
    assert {name: value[0, 0] for name, value in found.items()} == {
        "vocals": 1,
        "accompaniment": 30,
    }
    assert estimates["other"][0, 0] == 16


def test_two_stems_are_scored_on_tracks_of_four(
    dataset: StemDataset, model: Path, tmp_path: Path
) -> None:
    loaded = load_model(model)
    settings = loaded.config_dict() | {"sources": list(TWO)}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        save_model(build_model(loaded.family, settings), tmp_path / "two.safetensors")
    request = ResamplingRequest(
        data=dataset.folder,
        tracks=("noise 0",),
        model=str(tmp_path / "two.safetensors"),
        methods=("native", "resample", "oracle-irm"),
        sample_rates=(8000,),
        out=tmp_path / "out",
        metrics="sdr",
        report=False,
        device="cpu",
    )
    result = compare_resampling(request)
    assert not result.failures
    assert result.sources == TWO
    assert [tuple(score.sources) for score in result.scores] == [TWO] * 3
    oracle = result.scores[2].sources["accompaniment"].whole["si_sdr"]
    native = result.scores[0].sources["accompaniment"].whole["si_sdr"]
    assert oracle > native
    assert result.scores[0].equivariance_db is not None
    tracks = dataset.tracks[:1]
    examples = make_examples(
        dataset,
        plan_excerpts(tracks, ["noise 0:1-2"]),
        systems=result.systems,
        sources=result.sources,
        sample_rates=[8000],
        device="cpu",
        allow_upsampled=False,
    )
    assert [tuple(example.references) for example in examples] == [TWO]
    assert [tuple(stems) for stems in examples[0].estimates.values()] == [TWO] * 3
    study = make_study(
        identify_model(request.model),
        result.comparison,
        data="noise",
        systems=result.systems,
        sample_rates=[8000],
        tracks=tracks,
        examples=examples,
    )
    assert study.sources == TWO
