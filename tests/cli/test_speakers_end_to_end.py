"""Sources without names through the commands: prepare, train, separate, evaluate."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import soundfile

from sfisep_core.audio.files import read_audio

pytestmark = pytest.mark.slow

Run = Callable[..., int]
Capture = pytest.CaptureFixture[str]

RATE = 8000
TINY = {
    "model.num_filters": 16,
    "model.tcn": "{bottleneck_channels=8, hidden_channels=8, num_layers=2, num_stacks=1}",
    "mixing.excerpt_seconds": 0.5,
    "mixing.remix_probability": 1,
    "mixing.dynamic_levels": "true",
    "steps": 2,
    "epoch_steps": 2,
    "batch_size": 2,
}


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("SFISEP_DATA", str(tmp_path / "data"))


def write_mixtures(root: Path) -> None:
    rng = np.random.default_rng(0)
    for split, count in (("tr", 3), ("cv", 1), ("tt", 2)):
        for number in range(count):
            stems = rng.uniform(-0.2, 0.2, (2, 2 * RATE))
            for folder, samples in (("s1", stems[0]), ("s2", stems[1]), ("mix", stems.sum(0))):
                path = root / f"2speakers/wav8k/min/{split}/{folder}/{split}{number}.wav"
                path.parent.mkdir(parents=True, exist_ok=True)
                soundfile.write(path, samples, RATE)


def test_prepare_train_separate_evaluate(run_sfisep: Run, capsys: Capture) -> None:
    write_mixtures(Path("wsj0-mix"))
    assert run_sfisep("prepare-data", "wsj0-mix", "--out", "data") == 0
    assert "6 tracks in data: 3 train, 1 valid, 2 test" in capsys.readouterr().err

    settings = [part for key, value in TINY.items() for part in ("--set", f"{key}={value}")]
    command = ["train", "--config", "conv-tasnet-libri2mix", "--out", "run", "--device", "cpu"]
    assert run_sfisep(*command, *settings, "--quiet") == 0
    log = [json.loads(line) for line in Path("run/log.jsonl").read_text().splitlines()]
    validated = [event for event in log if event["event"] == "validation"]
    assert list(validated[-1]["si_sdr_improvement"][str(RATE)]) == ["s1", "s2"]
    model = "run/best.safetensors"

    options = ["--model", model, "--device", "cpu", "--quiet", "--float32"]
    assert run_sfisep("separate", "wsj0-mix/2speakers/wav8k/min/tt/mix/tt0.wav", *options) == 0
    stems = {
        path.stem: read_audio(path)[0] for path in Path("separated/run-best/tt0").glob("*.wav")
    }
    assert set(stems) == {"s1", "s2"}

    command = ["evaluate", "--model", model, "--baseline", "mixture", "--device", "cpu"]
    capsys.readouterr()
    assert run_sfisep(*command, "--out", "scores") == 0
    shown = capsys.readouterr().out
    assert "SI-SNRi" in shown
    assert "SDRi" in shown
    summary = json.loads(Path(f"scores/{RATE}/summary.json").read_text())
    rows = {(row["system"], row["source"], row["metric"]): row for row in summary["scores"]}
    for metric in ("si_snr_improvement", "sdr_improvement"):
        assert rows["mixture", "mean", metric]["median"] == 0
        assert rows["native", "mean", metric]["tracks"] == 2
        assert np.isfinite(rows["native", "mean", metric]["median"])


def test_models_and_data_of_other_kinds(run_sfisep: Run, capsys: Capture) -> None:
    write_mixtures(Path("wsj0-mix"))
    assert run_sfisep("prepare-data", "wsj0-mix", "--out", "data", "--quiet") == 0
    assert run_sfisep("evaluate", "--device", "cpu", "--out", "scores") != 0
    assert "expected stems of the data set (s1, s2), got vocals" in capsys.readouterr().err
    command = ["train", "--config", "conv-tasnet-demo", "--out", "run", "--device", "cpu"]
    assert run_sfisep(*command, "--set", "mixing.excerpt_seconds=1") != 0
    assert "expected stems of the data set (s1, s2), got vocals" in capsys.readouterr().err
