"""Every family through the commands: train, separate, evaluate."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import soundfile

from sfisep_core.audio.files import read_audio
from sfisep_core.data.demo_corpus import generate_demo_corpus
from sfisep_core.data.preparation import PreparationRequest
from sfisep_core.data.prepare import prepare_dataset
from sfisep_core.training.presets import PRESETS

pytestmark = pytest.mark.slow

Run = Callable[..., int]
Capture = pytest.CaptureFixture[str]

DEMOS = sorted(path.stem for path in PRESETS.glob("*-demo.toml"))
# These work at the rate of their training alone, 8 kHz.
RATE_BOUND = ("conv-tasnet-demo", "sepformer-demo", "sfsrnet-demo")
QUICK = ["steps=2", "epoch_steps=2", "batch_size=2", "mixing.excerpt_seconds=0.5"]
QUICK += ["validation_seconds=1", "validation_rates=[8000]", "warmup_steps=0"]


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("data")
    generate_demo_corpus(
        folder / "demo", num_train=1, num_valid=1, num_test=1, seconds=2, sample_rate=16000, seed=1
    )
    return prepare_dataset(
        PreparationRequest(source=folder / "demo", out=folder / "prepared")
    ).folder


@pytest.mark.parametrize("preset", DEMOS)
def test_train_separate_evaluate(run_sfisep: Run, capsys: Capture, preset: str, data: Path) -> None:
    settings = [part for setting in QUICK for part in ("--set", setting)]
    command = ["train", "--config", preset, "--data", str(data), "--out", "run", "--device", "cpu"]
    assert run_sfisep(*command, *settings, "--quiet") == 0
    model = "run/best.safetensors"

    mixture = np.random.default_rng(0).normal(0, 0.1, (22051, 2))
    soundfile.write("song.wav", mixture, 22050, subtype="FLOAT")
    options = ["--model", model, "--device", "cpu", "--quiet", "--float32"]
    if preset in RATE_BOUND:
        assert run_sfisep("separate", "song.wav", *options) == 1
        assert "it works at 8000 Hz only; pass --method resample" in capsys.readouterr().err
        options += ["--method", "resample"]
    assert run_sfisep("separate", "song.wav", *options) == 0
    stems = {path.stem: read_audio(path) for path in Path("separated/run-best/song").glob("*.wav")}
    assert set(stems) == {"vocals", "drums", "bass", "other"}
    for samples, sample_rate in stems.values():
        assert (samples.shape, sample_rate) == ((2, 22051), 22050)
    total = np.sum([samples for samples, _ in stems.values()], axis=0)
    assert np.abs(total - mixture.T).max() < 1e-5

    scored = ["--data", str(data), "--split", "test", "--model", model, "--device", "cpu"]
    scored += ["--metrics", "sdr"]
    # At the rate of its training a model is run in the same way by all methods.
    baseline = "mixture" if preset in RATE_BOUND else "resample"
    command = ["evaluate", *scored, "--sr", "8000", "--baseline", baseline, "--out", "scores"]
    assert run_sfisep(*command, "--quiet") == 0
    scores = [
        json.loads(path.read_text())["targets"]
        for system in ("run-best.native", baseline if preset in RATE_BOUND else "run-best.resample")
        for path in Path(f"scores/8000/{system}").rglob("*.json")
    ]
    assert len(scores) == 2
    assert scores[0] != scores[1]
    if preset in RATE_BOUND:
        command = ["evaluate", *scored, "--sr", "16000", "--out", "scores", "--quiet"]
        assert run_sfisep(*command, "--no-native", "--baseline", "resample") == 0
        assert [path.name for path in Path("scores/16000").iterdir() if path.is_dir()] == [
            "run-best.resample"
        ]
