import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

Run = Callable[..., int]


CONFIG = object()


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> list[tuple[object, ...]]:
    """What the core was asked for, in order; `tmp_path` is a prepared data set."""
    (tmp_path / "manifest.json").touch()
    noted: list[tuple[object, ...]] = []

    def load_config(path: Path | None, *, overrides: list[str], init: str | None) -> object:
        noted.append(("load_config", path, overrides, init))
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
                    message=message,
                )
            )
        return SimpleNamespace(best=Path("run/best.safetensors"), best_score=5.125)

    config_module = SimpleNamespace(
        DEFAULT_PRESET="sfi-conv-tasnet-small",
        load_config=load_config,
        resumed_config=resumed_config,
        show_config=lambda config: f"settings of {config}",
    )
    monkeypatch.setitem(sys.modules, "sfisep_core.training.config_loading", config_module)
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
        "change_data": False,
        "init": None,
        "device": "auto",
        "loader_workers": 2,
        "tensorboard": False,
    }
    assert calls == [("load_config", None, [], None), ("train", CONFIG, settings)]
    captured = capsys.readouterr()
    assert (captured.out, captured.err) == (
        "",
        "saved [best]\nbest model: run/best.safetensors, SI-SDR +5.12 dB over the mixture on the "
        "validation tracks; to use it: `sfisep separate SONG --model run/best.safetensors`\n",
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
    options = (
        "--set steps=9 --set model.bias=false --resume --change-data --init default -d cpu "
        "--threads 3 -q --precision bf16 --compile --loader-workers 0 --tensorboard"
    )
    arguments = ["--data", tmp_path, "--out", "run", "--config", config_file, *options.split()]
    assert run_sfisep("train", *arguments) == 0
    settings = {
        "data": tmp_path,
        "out": Path("run"),
        "resume": True,
        "change_data": True,
        "init": "default",
        "device": "cpu",
        "loader_workers": 0,
        "tensorboard": True,
    }
    changes = ["steps=9", "model.bias=false", "precision=bf16", "compile=true"]
    assert calls == [
        ("resumed_config", Path("run"), config_file, changes),
        ("train", CONFIG, settings),
    ]
    assert threads == [3]
    captured = capsys.readouterr()
    assert captured.out + captured.err == ""


def test_a_run_goes_on_with_its_own_data(
    run_sfisep: Run,
    calls: list[tuple[object, ...]],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    monkeypatch.setenv("SFISEP_DATA", str(tmp_path / "another"))
    assert run_sfisep("train", "--out", "run", "--resume", "-q") == 0
    _, settings = calls[-1][1:]
    assert isinstance(settings, dict)
    assert settings["data"] is None  # the run knows


def test_show_config_needs_no_data(
    run_sfisep: Run, calls: list[tuple[object, ...]], capsys: pytest.CaptureFixture[str]
) -> None:
    assert run_sfisep("train", "--show-config", "--config", "small", "--set", "steps=9") == 0
    assert capsys.readouterr().out == f"settings of {CONFIG}\n"
    assert calls == [("load_config", Path("small"), ["steps=9"], None)]


@pytest.mark.parametrize(
    ("arguments", "out"),
    [
        ([], "runs/sfi-conv-tasnet-small"),
        (["--config", "small"], "runs/small"),
        (["--out", "x"], "x"),
    ],
)
def test_data_and_out_have_defaults(
    arguments: list[str],
    out: str,
    run_sfisep: Run,
    calls: list[tuple[object, ...]],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("SFISEP_DATA", str(tmp_path))
    assert run_sfisep("train", *arguments) == 0
    settings = calls[-1][2]
    assert isinstance(settings, dict)
    assert (settings["data"], settings["out"]) == (tmp_path, Path(out))


def test_without_data_the_error_names_what_helps(
    run_sfisep: Run, calls: list[tuple[object, ...]], capsys: pytest.CaptureFixture[str]
) -> None:
    assert run_sfisep("train", "--out", "x") == 1
    shown = capsys.readouterr().err
    assert "sfisep prepare-data SOURCE --out DIR" in shown
    assert "--data DIR" in shown
    assert "sfisep prepare-data --demo DIR" in shown
    assert calls == []


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--gpus", "1", "--device", "cpu"], "--gpus 1 says where to compute"),
        (["--workers", "2"], "--workers 2 is for training on the CPU: add --gpus 0"),
        (["--gpus", "9999"], "--gpus 9999: this machine has"),
    ],
)
def test_processes_that_do_not_fit_are_refused(
    options: list[str],
    message: str,
    run_sfisep: Run,
    calls: list[tuple[object, ...]],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert run_sfisep("train", "--data", tmp_path, *options) == 2
    assert message in capsys.readouterr().err
    assert [name for name, *_ in calls] == ["load_config"]
