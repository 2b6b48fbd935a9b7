"""Super-resolution through the commands: train on top of a model, separate, compare."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch

from sfisep_core.audio.files import read_audio
from sfisep_core.data.demo_corpus import generate_demo_corpus
from sfisep_core.data.preparation import PreparationRequest
from sfisep_core.data.prepare import prepare_dataset
from sfisep_core.models.registry import build_model
from sfisep_core.models.super_resolved import SuperResolvedSeparator
from sfisep_core.pretrained.model_files import load_model, save_model

pytestmark = pytest.mark.slow

Run = Callable[..., int]
Capture = pytest.CaptureFixture[str]

QUICK = {
    "steps": 2,
    "epoch_steps": 2,
    "batch_size": 2,
    "mixing.excerpt_seconds": 0.5,
    "mixing.sample_rates": [16000],
    "validation_seconds": 1,
    "validation_rates": [16000],
    "warmup_steps": 0,
    "model.native_rate": 16000,
}
SETTINGS = [part for key, value in QUICK.items() for part in ("--set", f"{key}={value}")]


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def data(tmp_path: Path) -> str:
    generate_demo_corpus(
        tmp_path / "demo",
        num_train=1,
        num_valid=1,
        num_test=1,
        seconds=2,
        sample_rate=16000,
        seed=1,
    )
    return str(
        prepare_dataset(
            PreparationRequest(source=tmp_path / "demo", out=tmp_path / "prepared")
        ).folder
    )


@pytest.fixture
def below(tmp_path: Path) -> str:
    torch.manual_seed(0)
    tcn = {"bottleneck_channels": 8, "hidden_channels": 8, "num_layers": 1, "num_stacks": 1}
    config = {"num_filters": 16, "gain_rule": "mixture-consistent", "tcn": tcn}
    model = build_model("sfi-conv-tasnet", config).eval()
    save_model(model, tmp_path / "below.safetensors")
    return "below.safetensors"


def test_train_separate_compare(run_sfisep: Run, capsys: Capture, data: str, below: str) -> None:
    train = ["train", "--config", "super-resolve", "--data", data, "--device", "cpu", "--quiet"]
    train += SETTINGS
    assert run_sfisep(*train, "--out", "run") == 2
    assert "name that one with --init MODEL" in capsys.readouterr().err
    assert run_sfisep(*train, "--out", "run", "--init", below) == 0
    # On from what there is: the model below is in the file.
    useless = ["--out", "no", "--init", below, "--set", "model.restorer.network=false"]
    assert run_sfisep(*train, *useless) == 2
    assert "has nothing to be trained" in capsys.readouterr().err
    deaf = ["--out", "no", "--init", below, "--set", "model.low_rate=12000"]
    assert run_sfisep(*train, *deaf, "--set", "mixing.sample_rates=[12000]") == 2
    assert "expected rates above model.low_rate (12000 Hz)" in capsys.readouterr().err
    resume = ["train", "--data", data, "--device", "cpu", "--quiet", "--out", "run", "--resume"]
    assert run_sfisep(*resume, "--set", "steps=3") == 0
    assert run_sfisep(*train, "--out", "again", "--init", "run/best.safetensors") == 0
    trained, inner = load_model(Path("run/best.safetensors")), load_model(Path(below))
    assert isinstance(trained, SuperResolvedSeparator)
    for name, value in inner.state_dict().items():
        assert torch.equal(trained.separator.state_dict()[name], value)

    mixture = np.random.default_rng(0).normal(0, 0.1, (22051, 2))
    soundfile.write("song.wav", mixture, 22050, subtype="FLOAT")
    options = ["--device", "cpu", "--quiet", "--float32"]
    network = ["--super-resolve", "--network", "run/best.safetensors"]
    assert run_sfisep("separate", "song.wav", "-m", below, *network, *options) == 0
    own = ["-m", "run/best.safetensors"]
    assert run_sfisep("separate", "song.wav", *own, *options) == 0
    label = f"{Path.cwd().name}-below"
    for stem in ("vocals", "drums", "bass", "other"):
        beside, rate = read_audio(Path(f"separated/{label}/song/{stem}.wav"))
        alone, _ = read_audio(Path(f"separated/run-best/song/{stem}.wav"))
        assert (beside.shape, rate) == ((2, 22051), 22050)
        np.testing.assert_allclose(beside, alone, atol=1e-5)
    refused = ["--super-resolve", "--network", below]
    assert run_sfisep("separate", "song.wav", "-m", below, *refused, *options) == 1
    assert "expected a super-resolved model" in capsys.readouterr().err

    wrong = ["evaluate", "--data", data, "-m", below, "--network", below, "--device", "cpu"]
    assert run_sfisep(*wrong, "--baseline", "super-resolve", "--out", "scores") == 2
    assert "expected a super-resolved model" in capsys.readouterr().err
    assert not list(Path("scores").rglob("*.json"))

    compare = ["compare-resampling", "--data", data, "--sr", "16000", "--out", "study"]
    compare += ["-m", below, "--network", "run/best.safetensors", "--no-report", "--quiet"]
    methods = ("native", "resample", "super-resolve")
    compare += [part for method in methods for part in ("--method", method)]
    assert run_sfisep(*compare, "--device", "cpu") == 0
    scores = [
        json.loads(path.read_text())["targets"]
        for method in methods
        for path in Path(f"study/16000/{label}.{method}").rglob("*.json")
    ]
    assert len(scores) == len(methods)
    assert len({json.dumps(found) for found in scores}) == len(methods)
