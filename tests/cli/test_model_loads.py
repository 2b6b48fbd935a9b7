"""How often commands load the weights of models."""

import hashlib
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import soundfile

from sfisep_core.pretrained import resolve
from tests.evaluation.conftest import model

__all__ = ["model"]  # a fixture

Run = Callable[..., int]


def test_report_of_a_separation_loads_the_model_once(
    run_sfisep: Run,
    model: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    loaded = []
    load = resolve.load_model
    monkeypatch.setattr(resolve, "load_model", lambda path: loaded.append(path) or load(path))
    noise = np.random.default_rng(0).uniform(-0.1, 0.1, (8000, 2))
    soundfile.write(tmp_path / "noise.wav", noise, 8000)
    arguments = ["separate", tmp_path / "noise.wav", "--out", tmp_path / "out", "--model", model]
    assert run_sfisep(*arguments, "--device", "cpu", "--json") == 0
    report = json.loads(capsys.readouterr().out)
    assert report["model"]["sha256"] == hashlib.sha256(model.read_bytes()).hexdigest()
    assert loaded == [model]
