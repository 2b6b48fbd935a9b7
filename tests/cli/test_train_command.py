import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

Run = Callable[..., int]


CONFIG = object()


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> list[tuple[object, ...]]:
    """What the core was asked for, in order."""
    noted: list[tuple[object, ...]] = []

    def load_config(path: Path | None, *, overrides: list[str]) -> object:
        noted.append(("load_config", path, overrides))
        return CONFIG

    def resumed_config(out: Path, *, file: Path | None, overrides: list[str]) -> object:
        noted.append(("resumed_config", out, file, overrides))
        return CONFIG

    def train(config: object, *, progress: Callable[[object], None], **settings: object) -> object:
        noted.append(("train", config, settings))
        for step, message in ((1, ""), (2, "saved [best]")):
            progress(
                SimpleNamespace(
                    step=step,
                    steps=7,
                    loss=0.5,
                    learning_rate=1e-3,
                    examples_per_second=3.0,
                    message=message,
                )
            )
        return SimpleNamespace(best=Path("run/best.safetensors"), best_score=5.125)

    config_module = SimpleNamespace(
        load_config=load_config,
        resumed_config=resumed_config,
        show_config=lambda config: f"settings of {config}",
    )
    monkeypatch.setitem(sys.modules, "sfisep_core.training.config", config_module)
    monkeypatch.setitem(sys.modules, "sfisep_core.training.loop", SimpleNamespace(train=train))
    return noted


def test_defaults(
    run_sfisep: Run,
    calls: list[tuple[object, ...]],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert run_sfisep("train", "--data", tmp_path, "--out", "run") == 0
    settings = {
        "data": tmp_path,
        "out": Path("run"),
        "resume": False,
        "init": None,
        "device": "auto",
    }
    assert calls == [("load_config", None, []), ("train", CONFIG, settings)]
    captured = capsys.readouterr()
    assert (captured.out, captured.err) == (
        "",
        "saved [best]\nbest model: run/best.safetensors, 5.12 dB on the validation set\n",
    )


def test_every_option_arrives(
    run_sfisep: Run,
    calls: list[tuple[object, ...]],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    threads: list[int] = []
    monkeypatch.setattr(torch, "set_num_threads", threads.append)
    config_file = tmp_path / "c.toml"
    config_file.touch()
    options = "--set steps=9 --set model.bias=false --resume --init default -d cpu --threads 3 -q"
    arguments = ["--data", tmp_path, "--out", "run", "--config", config_file, *options.split()]
    assert run_sfisep("train", *arguments) == 0
    settings = {
        "data": tmp_path,
        "out": Path("run"),
        "resume": True,
        "init": "default",
        "device": "cpu",
    }
    assert calls == [
        ("resumed_config", Path("run"), config_file, ["steps=9", "model.bias=false"]),
        ("train", CONFIG, settings),
    ]
    assert threads == [3]
    captured = capsys.readouterr()
    assert captured.out + captured.err == ""


def test_show_config_needs_no_data(
    run_sfisep: Run, calls: list[tuple[object, ...]], capsys: pytest.CaptureFixture[str]
) -> None:
    assert run_sfisep("train", "--show-config", "--config", "small", "--set", "steps=9") == 0
    assert capsys.readouterr().out == f"settings of {CONFIG}\n"
    assert calls == [("load_config", Path("small"), ["steps=9"])]


@pytest.mark.parametrize(
    ("arguments", "missing"),
    [([], "--data and --out"), (["--out", "x"], "--data"), (["--data", "."], "--out")],
)
def test_data_and_out_are_needed(
    arguments: list[str],
    missing: str,
    run_sfisep: Run,
    calls: list[tuple[object, ...]],
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert run_sfisep("train", *arguments) == 2
    assert capsys.readouterr().err == (
        f"error: sfisep train needs {missing}: a prepared data set, and a folder for the run\n"
    )
    assert [name for name, *_ in calls] == ["load_config"]
