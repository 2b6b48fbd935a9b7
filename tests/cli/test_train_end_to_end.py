"""From nothing to separated music, through the command line: nothing is replaced."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import soundfile

from sfisep_core.pretrained.description import read_description

pytestmark = pytest.mark.slow

Run = Callable[..., int]

STEMS = ("vocals", "drums", "bass", "other")
SETTINGS = {
    "steps": 4,
    "batch_size": 2,
    "validation_tracks": 1,
    "validation_rates": [4000],
    "mixing.excerpt_seconds": 1,
    "mixing.sample_rates": [4000, 8000],
    "model.num_filters": 16,
    "model.tcn.bottleneck_channels": 8,
    "model.tcn.hidden_channels": 8,
    "model.tcn.num_layers": 2,
    "model.tcn.num_stacks": 1,
}
OPTIONS = [option for key, value in SETTINGS.items() for option in ("--set", f"{key}={value}")]


def test_demo_data_to_stems(
    run_sfisep: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    demo, run = tmp_path / "demo", tmp_path / "run"
    demo_options = ["--tracks", 3, "--seconds", 2, "--sr", 8000, "--quiet"]
    assert run_sfisep("prepare-data", "--demo", demo, *demo_options) == 0
    manifest = json.loads((demo / "manifest.json").read_text(encoding="utf-8"))
    assert [(track["split"], track["frames"]) for track in manifest["tracks"]] == [
        ("train", 16000),
        ("valid", 16000),
        ("test", 16000),
    ]
    assert capsys.readouterr() == ("", "")

    arguments = ["train", "--data", demo, "--out", run, "--device", "cpu", "--threads", 1]
    assert run_sfisep(*arguments, *OPTIONS) == 0
    files = ["best.safetensors", "checkpoint.pt", "last.safetensors", "log.jsonl"]
    assert sorted(path.name for path in run.glob("[!.]*")) == files
    shown = capsys.readouterr().err
    assert f"best model: {run / 'best.safetensors'}, " in shown
    about = read_description(run / "last.safetensors")
    assert (about.training["steps"], about.config["num_filters"]) == (4, 16)

    assert run_sfisep(*arguments, *OPTIONS) == 2  # there is a run already
    assert capsys.readouterr().err.splitlines() == [
        f"error: run folder {run}: holds a run already; pass --resume to go on, or another folder"
    ]
    assert run_sfisep(*arguments, "--resume", "--set", "steps=6", "--quiet") == 0
    assert read_description(run / "last.safetensors").training["steps"] == 6
    log = [json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()]
    first, second = [e for e in log if e["event"] == "start"]
    assert (first["step"], second["step"]) == (0, 4)
    assert second["config"] == {**first["config"], "steps": 6}
    assert capsys.readouterr() == ("", "")

    assert run_sfisep(*arguments, "--resume", "--set", "seed=1") == 2
    assert "training setting seed: the run in" in capsys.readouterr().err
    assert run_sfisep(*arguments, "--resume", "--init", "default") == 2
    assert capsys.readouterr().err == (
        f"error: --resume goes on with the weights in {run}: leave --init default out\n"
    )

    mixture = demo / "test/demo_0002/mixture.wav"
    options = ["--model", run / "best.safetensors", "--out", tmp_path / "out", "--float32"]
    assert run_sfisep("separate", mixture, *options, "--device", "cpu", "--quiet") == 0
    stems = [
        soundfile.read(tmp_path / f"out/{run.name}-best/mixture/{stem}.wav")[0] for stem in STEMS
    ]
    expected, _ = soundfile.read(mixture)
    assert expected.shape == (16000, 2)
    error = np.linalg.norm(np.sum(stems, axis=0) - expected) / np.linalg.norm(expected)
    assert error < 1e-4  # 80 dB


def test_wrong_setting_is_one_line(
    run_sfisep: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "manifest.json").touch()  # a prepared set, as far as can be seen without PyTorch
    arguments = ["--data", tmp_path, "--out", tmp_path / "run", "--set", "steps=0"]
    assert run_sfisep("train", *arguments) == 2
    assert capsys.readouterr().err == (
        "error: training setting steps: expected 1 to 1000000000, got 0"
        ": leave it out for the default, 10000\n"
    )
    assert not (tmp_path / "run").exists()


def test_data_that_is_not_prepared(
    run_sfisep: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["--data", tmp_path, "--out", tmp_path / "run", "--device", "cpu", *OPTIONS]
    assert run_sfisep("train", *arguments) == 1
    assert capsys.readouterr().err == (
        f"error: data set {tmp_path}, which --data names: expected manifest.json, found a folder "
        "without one: prepare one with `sfisep prepare-data SOURCE --out DIR`, let one be composed "
        "with `sfisep prepare-data --demo DIR`, or name one that is prepared with `--data DIR`\n"
    )
