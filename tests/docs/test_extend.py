"""The recipes of docs/how-to/extend.md, run as they stand."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from sfisep_core.audio.file_writer import AudioWriter
from sfisep_core.audio.files import read_audio
from sfisep_core.audio.formats import CODECS
from sfisep_core.audio.tags import Tags
from sfisep_core.errors import ConfigError
from sfisep_core.evaluation import metrics
from sfisep_core.evaluation.metrics import DEFINITIONS, WHOLE_TRACK_METRICS, whole_track_scores
from sfisep_core.models.registry import FAMILIES, build_model
from sfisep_core.pretrained.model_files import load_model, save_model
from sfisep_core.separation.separator import Separator
from sfisep_core.sfi import FILTERS

PAGE = Path(__file__).resolve().parents[2] / "docs/how-to/extend.md"
_, *SECTIONS = re.split(r"^## ", PAGE.read_text(encoding="utf-8"), flags=re.MULTILINE)
SMALL_TCN = {"bottleneck_channels": 8, "hidden_channels": 8, "num_layers": 2, "num_stacks": 1}


@pytest.fixture(autouse=True)
def tables() -> Iterator[None]:
    """Leave all tables as they were."""
    tables: list[Any] = [
        FILTERS,
        FAMILIES,
        CODECS,
        DEFINITIONS,
        WHOLE_TRACK_METRICS,
        metrics._ADDED,
    ]
    before = [dict(table) for table in tables]
    yield
    for table, rows in zip(tables, before, strict=True):
        for name in set(table) - set(rows):
            del table[name]


def run(title: str) -> dict[str, Any]:
    """Run all Python blocks of a recipe, one after the other."""
    (section,) = (text for text in SECTIONS if text.startswith(f"{title}\n"))
    names: dict[str, Any] = {"__name__": "recipe"}
    torch.manual_seed(0)
    for block in re.findall(r"^```python\n(.*?)^```$", section, re.MULTILINE | re.DOTALL):
        exec(compile(block, str(PAGE), "exec"), names)  # noqa: S102
    return names


def learns(family: str, settings: dict[str, Any]) -> torch.nn.Module:
    """Train a model for some steps on noise, and check that its loss falls."""
    torch.manual_seed(0)
    model = build_model(family, settings)
    mixture = 0.1 * torch.randn(1, 1, 2000)
    optimizer, losses = torch.optim.Adam(model.parameters(), lr=1e-2), []
    for _ in range(3):
        optimizer.zero_grad()
        stems = model(mixture, sample_rate=8000)
        loss = (stems - 0.25 * mixture.unsqueeze(1)).square().mean()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    for name, parameter in model.named_parameters():
        assert ".filters." not in name or parameter.grad is not None
    assert losses[-1] < losses[0]
    return model


@pytest.mark.parametrize("section", SECTIONS, ids=lambda text: text.splitlines()[0])
def test_recipes_are_short(section: str) -> None:
    assert section.rstrip().count("\n") < 60


def test_an_analog_filter_from_the_recipe_works(tmp_path: Path) -> None:
    run("Add an analog filter")
    settings = {"filters": "sinc", "design": "time", "num_filters": 8, "mask": "free"}
    model = learns("sfi-conv-tasnet", {**settings, "tcn": SMALL_TCN})
    save_model(model, tmp_path / "sinc.safetensors")  # type: ignore[arg-type]
    loaded = load_model(tmp_path / "sinc.safetensors")
    assert all(map(torch.equal, loaded.state_dict().values(), model.state_dict().values()))


def test_a_family_from_the_recipe_works(tmp_path: Path) -> None:
    run("Add a family")
    model = learns("linear", {"num_filters": 8})
    save_model(model, tmp_path / "linear.safetensors")  # type: ignore[arg-type]
    separator = Separator(tmp_path / "linear.safetensors", device="cpu")
    mixture = torch.randn(2, 8000).numpy()
    stems = separator.separate((mixture, 22050)).stems
    assert set(stems) == set(model.sources)
    assert all(stem.shape == mixture.shape for stem in stems.values())


def test_a_metric_from_the_recipe_works() -> None:
    names = run("Add a metric")
    reference = torch.randn(2, 8000, generator=torch.Generator().manual_seed(1)).numpy()
    scores = whole_track_scores(estimate=0.1 * reference, reference=reference, sample_rate=8000)
    # All levels differ by 20 dB, and nothing of white noise is 80 dB below the peak.
    assert scores["log_spectral_distance"] == pytest.approx(20, abs=0.01)
    assert scores["si_sdr"] > 100
    assert list(scores) == list(WHOLE_TRACK_METRICS)
    with pytest.raises(ConfigError, match=r"^metric 'log_spectral_distance': expected a name of "):
        metrics.add_metric("log_spectral_distance", names["definition"], lambda *_: 0.0)


def test_an_output_format_from_the_recipe_works() -> None:
    path = run("Add an output format")["path"]
    tags = Tags({"title": ("Song (vocals)",)})
    with AudioWriter(path.with_stem("tagged"), sample_rate=44100, channels=2, tags=tags) as writer:
        writer.write(np.zeros((2, 1000), dtype=np.float32))  # the format has no writer of tags
    assert path.with_stem("tagged").read_bytes() == path.read_bytes()
    samples, sample_rate = read_audio(path)
    assert (samples.shape, sample_rate) == ((2, 1000), 44100)
    assert path.read_bytes().startswith(b"FORM")
