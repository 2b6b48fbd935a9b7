"""The scores that museval's own repository keeps of seeded random estimates.

Source: sigsep/sigsep-mus-eval, tests/data/Music Delta - 80s Rock.json, made by museval 0.3.0:
vocals and accompaniment of the seven-second excerpt of MUSDB18 that the package musdb downloads,
against `numpy.random.random` with seed 0. They are rounded to five decimals.
"""

import os
import shutil
from pathlib import Path

import numpy as np
import pytest

from sfisep_core.evaluation.bss_eval import CONDITION_LIMIT, bss_eval

TRACK = "Music Delta - 80s Rock"
# fmt: off
REFERENCE = {
    "sdr": [
        [-16.89156, -15.90668, -12.74888, -14.10039, -15.33723, -16.37514],
        [-13.29782, -12.55332, -13.42369, -14.13454, -12.84300, -13.28168],
    ],
    "isr": [
        [-14.67801, -14.73029, -6.46934, -2.42318, -7.57783, -9.37330],
        [-0.14012, -0.22987, -0.48281, -0.76336, -0.41445, -0.12459],
    ],
    "sir": [
        [9.75952, 9.06763, 6.47532, 3.52292, 9.26284, 9.36795],
        [-25.90516, -24.83962, -16.37932, -6.82760, -14.57014, -21.15102],
    ],
    "sar": [
        [-3.94092, -3.28736, -7.01513, -13.64068, -8.47172, -7.63887],
        [-4.06010, -3.36142, -7.10641, -13.70428, -8.63040, -7.74802],
    ],
}
# fmt: on


@pytest.fixture
def excerpt() -> tuple[np.ndarray, np.ndarray, int]:
    """References (vocals, accompaniment) and seeded estimates, and their rate."""
    folder = os.environ.get("MUSDB_PATH")
    if folder is None or not any(Path(folder).rglob(f"{TRACK}.stem.mp4")):
        pytest.skip("the audio is not there: set MUSDB_PATH to the excerpts of MUSDB18 of musdb")
    if None in (shutil.which("ffmpeg"), shutil.which("ffprobe")):
        pytest.skip("musdb needs ffmpeg and ffprobe")
    import musdb

    (track,) = [track for track in musdb.DB(folder).tracks if track.name == TRACK]
    references = np.stack([track.targets[name].audio.T for name in ("vocals", "accompaniment")])
    generator = np.random.RandomState(0)
    estimates = np.stack([generator.random_sample(track.audio.shape).T for _ in range(2)])
    return references, estimates, int(track.rate)


def test_scores_of_musevals_repository(excerpt: tuple[np.ndarray, np.ndarray, int]) -> None:
    references, estimates, sample_rate = excerpt
    found = bss_eval(references, estimates, sample_rate=sample_rate)
    assert found.condition < CONDITION_LIMIT
    for metric, expected in REFERENCE.items():
        values = getattr(found, metric)[:, : len(expected[0])]
        np.testing.assert_allclose(values, expected, rtol=0, atol=6e-6)  # of five decimals
