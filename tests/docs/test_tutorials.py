"""The commands of the README and the tutorials, run one after the other as a reader would.

What takes minutes is cut short, and nothing is installed; all else is run as it stands.
"""

import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile

from tests.docs.test_commands import REPOSITORY

pytestmark = pytest.mark.slow

SHORTER = {
    r"--set steps=\d+": "--set steps=2",
    r"--set epoch_steps=\d+": "--set epoch_steps=1",
    r"--seconds \d+": "--seconds 4",
}


def program_of(page: Path) -> str:
    """Return the blocks of shell and Python in a page as one shell script."""
    blocks = re.findall(r"^```(sh|python)\n(.*?)^```", page.read_text("utf-8"), re.DOTALL | re.M)
    script = []
    for kind, block in blocks:
        if kind == "python":
            script.append(f"{sys.executable} - <<'END'\n{block}END")
            continue
        kept = [line for line in block.splitlines() if not line.startswith("pip ")]
        script += kept
    text = "\n".join(script)
    for long, short in SHORTER.items():
        text = re.sub(long, short, text)
    return text


def run(script: str, folder: Path) -> None:
    """Run a script in a folder that is the user's home, too."""
    programs = folder / "bin"
    programs.mkdir()
    program = programs / "sfisep"
    program.write_text(f'#!/bin/sh\nexec {sys.executable} -m sfisep_cli "$@"\n')
    program.chmod(0o755)
    paths = {"PATH": f"{programs}:{os.environ['PATH']}", "PYTHONPATH": str(REPOSITORY)}
    homes = {name: str(folder) for name in ("HOME", "XDG_DATA_HOME", "XDG_CACHE_HOME")}
    done = subprocess.run(
        ["/bin/bash", "-euo", "pipefail", "-c", script],
        cwd=folder,
        env={**os.environ, **paths, **homes, "OMP_NUM_THREADS": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=600,
        check=False,
    )
    assert done.returncode == 0, done.stdout
    assert "Traceback" not in done.stdout


def test_first_separation(tmp_path: Path) -> None:
    run(program_of(REPOSITORY / "docs/tutorial/first-separation.md"), tmp_path)
    song = soundfile.info(tmp_path / "song.wav")
    for folder, rate in (("separated", 44100), ("separated-8k", 8000), ("resampled-8k", 8000)):
        for stem in ("vocals", "drums", "bass", "other"):
            info = soundfile.info(tmp_path / folder / "default/song" / f"{stem}.wav")
            assert (info.samplerate, info.channels) == (rate, song.channels)
            assert info.frames == -(-song.frames * rate // song.samplerate)


def test_training_and_comparing(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    script = program_of(REPOSITORY / "docs/tutorial/train-and-compare.md")
    assert "steps=2 " in script
    run(script, tmp_path)
    assert len(list((tmp_path / "mine").rglob("vocals.wav"))) == 1
    report = (tmp_path / "resampling-study/report.html").read_text("utf-8")
    for heading in ("What was found", "Equivariance error", "Filter responses", "Listen"):
        assert heading in report


def test_readme(tmp_path: Path) -> None:
    """Without the demo, which the first tutorial runs."""
    noise = np.random.default_rng(0).normal(0, 0.1, (44100, 2))
    soundfile.write(tmp_path / "song.wav", noise, 44100)
    run(program_of(REPOSITORY / "README.md"), tmp_path)
    for path in ("separated/default/song", "at-8-kHz/default/song", "stems"):
        assert (tmp_path / path / "vocals.wav").is_file()
