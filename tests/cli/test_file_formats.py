"""The tables of file formats against files that the program writes."""

import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from safetensors import safe_open

from tests.docs.test_commands import REPOSITORY

pytestmark = pytest.mark.slow

PAGE = (REPOSITORY / "docs/reference/file-formats.md").read_text("utf-8")


def documented(heading: str) -> set[str]:
    """Return the fields in the tables of a section; a name in capitals becomes `*`."""
    (section,) = re.findall(rf"^## {heading}$(.*?)(?=^## |\Z)", PAGE, re.DOTALL | re.MULTILINE)
    fields = set()
    for cell in re.findall(r"^\| (`.*?) \|", section, re.MULTILINE):
        parent = ""
        for name in re.findall(r"`([^`]+)`", cell):
            full = parent + name if name.startswith(".") else name
            parent = full.rpartition(".")[0]
            fields.add(re.sub(r"\b(STEM|SCORE|HZ|NAME)\b", "*", full))
    return fields


def fields_of(content: Any, path: str = "") -> Iterator[str]:
    """Yield the paths of all values in JSON that are neither objects nor lists of objects."""
    if isinstance(content, dict) and content:
        for name, value in content.items():
            yield from fields_of(value, f"{path}.{name}" if path else name)
    elif isinstance(content, list) and content and isinstance(content[0], dict):
        for value in content:
            yield from fields_of(value, f"{path}[]")
    else:
        yield path


def undocumented(content: Any, heading: str) -> set[str]:
    """Return the fields of a file that its section does not have."""
    known = documented(heading)
    patterns = [
        re.compile(re.escape(name).replace(r"\*", r"[^.\[]+") + r"(\..*|\[\].*)?$")
        if "*" in name or name in {"config", "training", "tracks", "data"}
        else re.compile(re.escape(name) + "$")
        for name in known
    ]
    fields = set(fields_of(content))
    assert len(fields) > 3
    return {field for field in fields if not any(pattern.match(field) for pattern in patterns)}


@pytest.fixture(scope="module")
def music(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("music")
    rng = np.random.default_rng(0)
    for split in ("train", "valid", "test"):
        track = folder / "source" / split / f"noise {split}"
        track.mkdir(parents=True)
        for stem in ("vocals", "drums", "bass", "other"):
            soundfile.write(track / f"{stem}.wav", rng.uniform(-0.2, 0.2, (16000, 2)), 8000)
    return folder


def test_every_field_is_documented(
    music: Path,
    run_sfisep: Callable[..., int],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(music)
    small = ("--model", "sfi-conv-tasnet-small")
    assert run_sfisep("prepare-data", "source", "--out", "set") == 0
    assert undocumented(json.loads(Path("set/manifest.json").read_text()), "Data set") == set()

    song = "set/test/noise test/vocals.wav"
    capsys.readouterr()
    assert run_sfisep("separate", song, "missing.wav", *small, "--json", "--device", "cpu") == 1
    report = json.loads(capsys.readouterr().out)
    assert undocumented(report, "Report of `separate --json`") == set()

    score = ("--data", "set", *small, "--baseline", "mixture", "--device", "cpu")
    assert run_sfisep("evaluate", *score, "--out", "scores", "--quiet") == 0
    summary = json.loads(Path("scores/8000/summary.json").read_text())
    assert undocumented(summary, "Scores") == set()
    (track,) = Path("scores/8000").glob("*native/test/*.json")
    assert undocumented(json.loads(track.read_text()), "Scores") == set()

    steps = ("--set", "steps=1", "--set", "epoch_steps=1", "--set", "batch_size=1")
    short = ("--set", "mixing.excerpt_seconds=1", "--set", "validation_seconds=1")
    run = ("--data", "set", "--config", "unet-demo", "--gpus", "0", "--loader-workers", "0")
    assert run_sfisep("train", *run, *steps, *short, "--out", "run", "--quiet") == 0
    for line in Path("run/log.jsonl").read_text().splitlines():
        known = documented("Training run")
        fields = {
            re.sub(r"^(si_sdr_improvement|snr)\..*", r"\1.*.*", name)
            for name in fields_of(json.loads(line))
        }
        assert {name for name in fields if not name.startswith(("config.", "data."))} <= known
    with safe_open("run/best.safetensors", "numpy") as file:
        description = json.loads(file.metadata()["sfisep"])
    assert undocumented(description, "Model file") == set()


def test_what_is_not_documented_is_noticed() -> None:
    for name in ("schema", "files[].stems.*", "files[].page", "model.sha256"):
        assert name in documented("Report of `separate --json`")
    report = {
        "schema": "",
        "failed": 0,
        "version": "",
        "new": 1,
        "files": [{"path": "", "size": 3}],
    }
    assert undocumented(report, "Report of `separate --json`") == {"new", "files[].size"}
