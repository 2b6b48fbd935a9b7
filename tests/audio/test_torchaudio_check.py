import os
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch

from sfisep_core.audio.resample import sinc_resample
from sfisep_core.audio.torchaudio_check import OLDEST_TORCH, OLDEST_TORCHAUDIO, check_torchaudio
from sfisep_core.data.demo_corpus import generate_demo_corpus
from sfisep_core.errors import ConfigError
from sfisep_core.separation.separator import Separator
from sfisep_core.separation.settings import MethodName, SeparationSettings

pytestmark = pytest.mark.slow

REPOSITORY = Path(__file__).resolve().parents[2]
# What an extension raises that was built for another torch, another CUDA, or not at all.
FAULTS = {
    "symbol": 'raise OSError("_torchaudio.abi3.so: undefined symbol: aoti_torch_abi_version")',
    "library": 'raise ImportError("libcudart.so.13: cannot open shared object file")',
    "cuda": 'raise RuntimeError("PyTorch has CUDA version 12.6 whereas TorchAudio has 13.0")',
}


def run(arguments: str, folder: Path) -> subprocess.CompletedProcess[str]:
    """Run a command where a torchaudio that cannot be loaded comes before the real one."""
    (folder / "torchaudio.py").write_text(FAULTS["symbol"])
    variables = {
        "PYTHONPATH": os.pathsep.join([str(folder), str(REPOSITORY)]),
        "SFISEP_DATA": str(folder / "prepared"),
        "COLUMNS": "1000",
    }
    return subprocess.run(
        [sys.executable, "-m", "sfisep_cli", *arguments.split()],
        cwd=folder,
        env=os.environ | variables,
        capture_output=True,
        text=True,
        check=False,
    )


def song(folder: Path, sample_rate: int = 8000) -> None:
    samples = np.random.default_rng(0).normal(0, 0.1, (sample_rate, 2))
    soundfile.write(folder / "song.wav", samples, sample_rate)


@pytest.mark.parametrize("fault", FAULTS)
def test_whatever_the_fault_it_is_told(
    fault: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "torchaudio.py").write_text(FAULTS[fault])
    monkeypatch.syspath_prepend(tmp_path)
    for name in ("torchaudio", "torchaudio.transforms"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    reason = FAULTS[fault].split('"')[1]
    with pytest.raises(ConfigError) as caught:
        check_torchaudio("this test", instead="skip it")
    assert f"this test needs torchaudio, which cannot be loaded: {reason}. " in str(caught.value)


def test_methods_that_need_it_end_before_any_work(tmp_path: Path) -> None:
    song(tmp_path)
    reason = FAULTS["symbol"].split('"')[1]
    done = run("separate song.wav --method resample", tmp_path)
    assert done.returncode == 2
    assert " ".join(done.stderr.split()).endswith(
        f"method resample needs torchaudio, which cannot be loaded: {reason}. Installed are torch "
        f"{version('torch')} and torchaudio {version('torchaudio')}; expected torch 2.13 or newer "
        "with torchaudio 2.11.1 or newer, both built for CUDA or both for the CPU. Install a pair "
        "that fits, for example with `pip install --upgrade torch torchaudio`, or choose the "
        "method native, soxr or direct"
    )
    assert not (tmp_path / "separated").exists()


@pytest.mark.parametrize("method", ["native", "soxr", "direct"])
def test_other_methods_work_without_it(
    method: MethodName, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    song(tmp_path, 7900)  # rates for which no other test has made filters
    monkeypatch.setitem(sys.modules, "torchaudio", None)
    separator = Separator("default", SeparationSettings(method=method), device="cpu")
    separator.separate_file(tmp_path / "song.wav", out_dir=tmp_path / "out", sample_rate=16100)
    assert len(list((tmp_path / "out").rglob("*.wav"))) == 4


def test_scoring_ends_before_any_work(tmp_path: Path) -> None:
    generate_demo_corpus(tmp_path / "demo", num_train=0, num_valid=0, num_test=1, seconds=2.0)
    prepared = run("prepare-data demo --out prepared", tmp_path)
    assert prepared.returncode == 0, prepared.stderr
    for command in ("evaluate --baseline", "compare-resampling --method"):
        done = run(f"{command} resample --data prepared --out scores", tmp_path)
        assert done.returncode == 2
        assert "method resample needs torchaudio, which cannot be loaded" in done.stderr
        assert not (tmp_path / "scores").exists()


def test_resampling_says_what_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torchaudio", None)
    audio = torch.ones(10)
    # A pair of rates that no other test has made filters for.
    with pytest.raises(ConfigError, match="from 8100 Hz to 7900 Hz needs torchaudio"):
        sinc_resample(audio, orig_rate=8100, target_rate=7900)
    assert torch.equal(sinc_resample(audio, orig_rate=8000, target_rate=8000), audio)


def test_the_installed_one_can_be_loaded() -> None:
    check_torchaudio("this test", instead="install it")


def test_the_bounds_are_those_of_the_package() -> None:
    text = (REPOSITORY / "pyproject.toml").read_text()
    assert f'"torch>={OLDEST_TORCH}",' in text
    assert f'"torchaudio>={OLDEST_TORCHAUDIO}",' in text
