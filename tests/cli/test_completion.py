"""What the shell completes, asked for as the shells do it."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from sfisep_core.pretrained.registry import BUNDLED
from sfisep_core.training.presets import list_presets

pytestmark = pytest.mark.slow


def completed(line: str, **environment: str) -> list[str]:
    """What bash offers for the last word of a line."""
    words = line.split(" ")
    code = "import sys; sys.argv = ['sfisep']; from sfisep_cli.app import main; main(); "
    code += "assert 'torch' not in sys.modules"
    asked = {
        "_SFISEP_COMPLETE": "complete_bash",
        "COMP_WORDS": line,
        "COMP_CWORD": str(len(words) - 1),
    }
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, **asked, **environment},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stderr == ""
    return done.stdout.split()


@pytest.mark.parametrize(
    "line",
    [
        "sfisep separate song.wav --model ",
        "sfisep separate song.wav --super-resolve --network ",
        "sfisep train --init ",
        "sfisep models show ",
        "sfisep models verify ",
    ],
)
def test_names_of_models(line: str) -> None:
    assert {*BUNDLED, "scnet", "spleeter-2stems"} <= set(completed(line))
    assert completed(line + "scnet-") == ["scnet-large"]


def test_names_of_presets() -> None:
    assert completed("sfisep train --config ") == list_presets()
    assert completed("sfisep train --config lightsaft-") == ["lightsaft-large"]


def test_choices_and_options() -> None:
    assert completed("sfisep separate song.wav --method sup") == ["super-resolve"]
    assert completed("sfisep separate song.wav --two") == ["--two-stems"]


def test_cache_that_cannot_be_read_gives_no_names(tmp_path: Path) -> None:
    (tmp_path / "models").write_text("a file where a folder should be")
    names = completed("sfisep separate --model sc", SFISEP_CACHE=str(tmp_path))
    assert set(names) <= {"scnet", "scnet-large"}
