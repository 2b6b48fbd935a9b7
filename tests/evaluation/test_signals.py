from pathlib import Path

import numpy as np
import pytest
import soundfile

from sfisep_core.audio.resample import resample
from sfisep_core.data.datasets import StemDataset
from sfisep_core.data.layouts import STEMS
from sfisep_core.data.preparation import PreparationRequest
from sfisep_core.data.prepare import prepare_dataset
from sfisep_core.errors import DatasetError
from sfisep_core.evaluation.signals import read_signals
from tests.evaluation.conftest import stems_of


def test_at_the_stored_rate_samples_are_those_of_the_files(dataset: StemDataset) -> None:
    signals = read_signals(dataset, dataset.tracks[2], sources=STEMS, sample_rate=8000)
    np.testing.assert_array_equal(signals.references, stems_of(2).astype(np.float32))
    np.testing.assert_allclose(signals.mixture, stems_of(2).sum(0), atol=1e-6)
    assert (signals.name, signals.split, signals.sources) == ("noise 2", "test", STEMS)


def test_everything_is_resampled_once(dataset: StemDataset) -> None:
    order = ("other", "vocals")
    signals = read_signals(dataset, dataset.tracks[0], sources=order, sample_rate=5000)
    for found, name in zip(signals.references, order, strict=True):
        stem = stems_of(0)[STEMS.index(name)].astype(np.float32)
        np.testing.assert_array_equal(found, resample(stem, orig_rate=8000, target_rate=5000))
    mixture = stems_of(0).sum(0).astype(np.float32)
    expected = resample(mixture, orig_rate=8000, target_rate=5000)
    np.testing.assert_allclose(signals.mixture, expected, atol=1e-6)


@pytest.fixture
def with_mixture(tmp_path: Path) -> StemDataset:
    """A track with a mixture of its own."""
    folder = tmp_path / "in/test/song"
    folder.mkdir(parents=True)
    for number, name in enumerate((*STEMS, "mixture")):
        soundfile.write(folder / f"{name}.wav", np.full((800, 2), (number + 1) / 16), 8000)
    data = prepare_dataset(PreparationRequest(source=tmp_path / "in", out=tmp_path / "data")).folder
    return StemDataset(data, split="test", excerpt_seconds=None)


def test_given_mixture_is_used(with_mixture: StemDataset) -> None:
    (track,) = with_mixture.tracks
    signals = read_signals(with_mixture, track, sources=STEMS, sample_rate=8000)
    np.testing.assert_array_equal(signals.mixture, np.full((2, 800), 5 / 16))


def test_shortened_mixture_is_refused(with_mixture: StemDataset) -> None:
    (track,) = with_mixture.tracks
    soundfile.write(with_mixture.folder / str(track.mixture), np.zeros((799, 2)), 8000)
    with pytest.raises(DatasetError, match=r"expected 800 frames .* found 799"):
        read_signals(with_mixture, track, sources=STEMS, sample_rate=8000)


def test_a_stem_for_the_rest_is_the_sum_of_what_is_not_named(dataset: StemDataset) -> None:
    sources = ("vocals", "accompaniment")
    signals = read_signals(dataset, dataset.tracks[0], sources=sources, sample_rate=8000)
    stems = stems_of(0).astype(np.float32)
    vocals = STEMS.index("vocals")
    np.testing.assert_array_equal(signals.references[0], stems[vocals])
    expected = np.delete(stems, vocals, axis=0).sum(axis=0)
    np.testing.assert_allclose(signals.references[1], expected, atol=1e-6)
