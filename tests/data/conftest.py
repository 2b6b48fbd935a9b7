"""Prepared data sets of known samples."""

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
import soundfile

from sfisep_core.data.layouts import STEMS
from sfisep_core.data.preparation import PreparationRequest
from sfisep_core.data.prepare import prepare_dataset

Signal = Callable[[int, int], npt.NDArray[np.float64]]


@pytest.fixture
def make_data(tmp_path: Path) -> Callable[..., Path]:
    """Prepare two tracks for training, `signal(track, stem)`: samples of full scale 1."""

    def make(signal: Signal, *, rates: Sequence[int] = (8000, 8000)) -> Path:
        for track, rate in enumerate(rates):
            folder = tmp_path / f"in/train/track{track}"
            folder.mkdir(parents=True)
            for stem, name in enumerate(STEMS):
                soundfile.write(folder / f"{name}.wav", signal(track, stem), rate, subtype="PCM_16")
        # With a track for validation none of the others is held out.
        (tmp_path / "in/valid/tiny").mkdir(parents=True)
        for name in STEMS:
            soundfile.write(tmp_path / f"in/valid/tiny/{name}.wav", np.zeros(8), rates[0])
        return prepare_dataset(
            PreparationRequest(source=tmp_path / "in", out=tmp_path / "data")
        ).folder

    return make
