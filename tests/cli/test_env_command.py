import json
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from sfisep_core.pretrained.registry import BUNDLED

Run = Callable[..., int]


@pytest.fixture(autouse=True)
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A machine with a program of its own for ffmpeg, and no GPU."""
    ffmpeg = tmp_path / "bin/ffmpeg"
    ffmpeg.parent.mkdir()
    ffmpeg.write_text("#!/bin/sh\necho ffmpeg version 77\necho built somewhere\n")
    ffmpeg.chmod(0o755)
    monkeypatch.setenv("PATH", str(ffmpeg.parent))
    monkeypatch.setenv("SFISEP_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("HTTPS_PROXY", "user:secret@proxy")
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    return ffmpeg


def test_environment_in_json(
    machine: Path, run_sfisep: Run, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    assert run_sfisep("env", "--json") == 0
    found = json.loads(capsys.readouterr().out)
    assert found["packages"]["torch"] == torch.__version__
    assert found["python"] == ".".join(map(str, sys.version_info[:3]))
    assert found["gpus"] == []
    assert found["ffmpeg"] == {"path": str(machine), "version": "ffmpeg version 77"}
    assert found["models"]["folder"] == str(tmp_path / "cache/models")
    assert found["models"]["available"] == list(BUNDLED)
    assert found["variables"]["HTTPS_PROXY"] == "(set)"
    assert "secret" not in json.dumps(found)


def test_environment_as_a_table(run_sfisep: Run, capsys: pytest.CaptureFixture[str]) -> None:
    assert run_sfisep("env") == 0
    text = capsys.readouterr().out
    for part in (
        "torch",
        torch.__version__,
        "ffmpeg version 77",
        "no GPU found",
        "default",
    ):
        assert part in text
    assert "secret" not in text


@pytest.mark.parametrize("content", ["#!/bin/sh\nexit 3\n", "no program", None])
def test_ffmpeg_that_does_not_run(
    content: str | None, machine: Path, run_sfisep: Run, capsys: pytest.CaptureFixture[str]
) -> None:
    machine.unlink() if content is None else machine.write_text(content)
    assert run_sfisep("env", "--json") == 0
    found = json.loads(capsys.readouterr().out)["ffmpeg"]
    assert found is None if content is None else found["version"].startswith("does not run: ")
