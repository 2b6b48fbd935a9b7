"""A small data set of known signals, and a small model."""

from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch

from sfisep_core.data.datasets import StemDataset
from sfisep_core.data.layouts import STEMS
from sfisep_core.data.preparation import PreparationRequest
from sfisep_core.data.prepare import prepare_dataset
from sfisep_core.models.registry import build_model
from sfisep_core.pretrained.model_files import save_model

SAMPLE_RATE = 8000
SECONDS = 2.25


def stems_of(track: int) -> np.ndarray:
    """Noises, shape (source, channel, time); the bass of track 1 is silent."""
    frames = round(SECONDS * SAMPLE_RATE)
    stems = np.random.default_rng(track).uniform(-0.2, 0.2, (len(STEMS), 2, frames))
    if track == 1:
        stems[STEMS.index("bass")] = 0
    return np.round(stems * 32768) / 32768


@pytest.fixture(scope="session")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three prepared tracks for testing, `noise 0` to `noise 2`, at 8 kHz."""
    folder = tmp_path_factory.mktemp("evaluation")
    for track in range(3):
        place = folder / f"in/test/noise {track}"
        place.mkdir(parents=True)
        for name, stem in zip(STEMS, stems_of(track), strict=True):
            soundfile.write(place / f"{name}.wav", stem.T, SAMPLE_RATE, subtype="PCM_16")
    return prepare_dataset(PreparationRequest(source=folder / "in", out=folder / "data")).folder


@pytest.fixture
def dataset(data: Path) -> StemDataset:
    return StemDataset(data, split="test", excerpt_seconds=None)


@pytest.fixture(scope="session")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model file with random weights, trained, so to say, at 6 kHz."""
    tcn = {"bottleneck_channels": 8, "hidden_channels": 8, "num_layers": 1, "num_stacks": 1}
    settings = {
        "native_rate": 6000,
        "highest_hz": 3000.0,
        "kernel_size": 60,
        "stride": 30,
        "num_filters": 16,
        "num_centers": 8,
        "mask": "free",
        "trunk": "shared",
        "gain_rule": "mixture-consistent",
        "normalizes_level": False,
        "tcn": {**tcn, "norm": "window", "norm_window": 21},
    }
    path = tmp_path_factory.mktemp("model") / "tiny.safetensors"
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        save_model(build_model("sfi-conv-tasnet", settings), path)
    return path
