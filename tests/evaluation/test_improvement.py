"""Scores of speech separation, and sources whose order means nothing."""

import itertools
import json
import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import soundfile

from sfisep_core.data.datasets import StemDataset
from sfisep_core.data.preparation import PreparationRequest
from sfisep_core.data.prepare import prepare_dataset
from sfisep_core.evaluation.improvement import filtered_sdrs, improvement_scores, si_snr
from sfisep_core.evaluation.metrics import IMPROVEMENT_METRICS
from sfisep_core.evaluation.plan import plan_systems
from sfisep_core.evaluation.scoring import Evaluation, score_systems
from sfisep_core.evaluation.scoring_jobs import ScoringSettings
from sfisep_core.evaluation.study import ALL_SOURCES, ScoreKey
from tests.evaluation.collecting import collect

pytestmark = pytest.mark.slow

RATE = 8000
STEMS = ("s1", "s2", "s3")


def noise(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=shape)


def delayed(signal: np.ndarray, taps: np.ndarray) -> np.ndarray:
    """Filter each channel, with the end cut off."""
    return np.stack([np.convolve(channel, taps)[: signal.shape[1]] for channel in signal])


def filtered_sdr(estimate: np.ndarray, reference: np.ndarray) -> float:
    (ratio,) = filtered_sdrs([estimate], reference)
    return ratio


def sdr_by_least_squares(estimate: np.ndarray, reference: np.ndarray) -> float:
    """The definition, with a matrix of all delays of one channel."""
    length = reference.shape[1]
    delays = np.zeros((length + 511, 512))
    for delay in range(512):
        delays[delay : delay + length, delay] = reference[0]
    padded = np.pad(estimate[0], (0, 511))
    target = delays @ np.linalg.lstsq(delays, padded, rcond=None)[0]
    return float(10 * np.log10(np.sum(target**2) / np.sum((padded - target) ** 2)))


@pytest.mark.parametrize("offset", [0.0, 3.0])
def test_si_snr_takes_out_the_mean(offset: float) -> None:
    reference = noise(1, 4000)
    estimate = 0.5 * reference + 0.05 * noise(1, 4000, seed=1)
    expected = si_snr(estimate, reference)
    assert expected == pytest.approx(20, abs=0.3)
    assert si_snr(estimate + offset, reference - offset) == pytest.approx(expected, abs=1e-6)


def test_sdr_is_that_of_its_definition() -> None:
    reference, other = noise(1, 1500), noise(1, 1500, seed=1)
    # A filter of the reference as long as may be, a longer one, and something else.
    taps = noise(513, seed=2) * 0.99 ** np.arange(513)
    for estimate in (
        reference + 0.3 * other,
        delayed(reference, taps[:512]) + 0.3 * other,
        delayed(reference, np.eye(1, 600, 520)[0]) + 0.1 * other,
        other,
    ):
        found = filtered_sdr(estimate, reference)
        assert found == pytest.approx(sdr_by_least_squares(estimate, reference), abs=1e-6)


def test_filters_are_no_distortion() -> None:
    reference = noise(1, 20000)
    reference[:, -600:] = 0  # so that nothing is cut off
    taps = noise(512, seed=1) * 0.98 ** np.arange(512)
    estimate = delayed(reference, taps)
    assert filtered_sdr(estimate, reference) > 80
    assert si_snr(estimate, reference) < 10
    assert filtered_sdr(delayed(reference, np.eye(1, 513, 512)[0]), reference) < 0


def test_silent_estimate_is_the_worst() -> None:
    assert filtered_sdr(np.zeros((1, 2000)), noise(1, 2000)) == -math.inf


@pytest.mark.parametrize("channels", [1, 2])
def test_estimates_together_have_the_ratios_of_each(channels: int) -> None:
    reference = noise(channels, 2000)
    estimates = [np.zeros_like(reference)]
    estimates += [reference + 0.3 * noise(channels, 2000, seed=seed) for seed in (1, 2)]
    together = filtered_sdrs(estimates, reference)
    assert together[0] == -math.inf
    alone = [filtered_sdr(estimate, reference) for estimate in estimates]
    assert together == pytest.approx(alone, abs=1e-9)
    assert together[1] != together[2]


def test_improvement_of_the_mixture_is_zero() -> None:
    reference, mixture = noise(1, 4000), noise(1, 4000) + noise(1, 4000, seed=1)
    scores = improvement_scores(estimate=mixture, reference=reference, mixture=mixture)
    assert scores == dict.fromkeys(IMPROVEMENT_METRICS, 0.0)
    better = reference + 0.1 * (mixture - reference)
    scores = improvement_scores(estimate=better, reference=reference, mixture=mixture)
    assert scores["si_snr_improvement"] == pytest.approx(20, abs=0.3)
    assert scores["sdr_improvement"] == pytest.approx(20, abs=1.5)


def samples_of(track: int) -> np.ndarray:
    """Stems of a track, shape (source, time), exact in 16 bits."""
    stems = np.random.default_rng(track).uniform(-0.2, 0.2, (3, round(1.25 * RATE)))
    return np.round(stems * 32768) / 32768


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> StemDataset:
    folder = tmp_path_factory.mktemp("speakers")
    for track, (number, name) in itertools.product(range(2), enumerate(STEMS)):
        path = folder / f"in/tt/{name}/sentence {track}.wav"
        path.parent.mkdir(parents=True, exist_ok=True)
        soundfile.write(path, samples_of(track)[number], RATE, subtype="PCM_16")
    prepared = prepare_dataset(PreparationRequest(source=folder / "in", out=folder / "data")).folder
    return StemDataset(prepared, split="test", excerpt_seconds=None)


def score(
    dataset: StemDataset, estimates: Path, out: Path, *, baselines: Sequence[str] = ("mixture",)
) -> Evaluation:
    return score_systems(
        dataset,
        dataset.tracks,
        systems=plan_systems(None, baselines, stems=dataset.stems, estimates=[estimates]),
        sample_rates=[RATE],
        sources=dataset.stems,
        out=out,
        settings=ScoringSettings(metrics="sdr", save_estimates=True),
    )


def write_estimates(folder: Path, order: tuple[int, ...]) -> None:
    """Write stems with some noise, each under the name of another one."""
    for track in range(2):
        (folder / f"sentence {track}").mkdir(parents=True)
        for number, place in enumerate(order):
            levels = (0.02, 0.01, 0.005)
            stem = samples_of(track)[number]
            stem = stem + levels[number] * noise(stem.size, seed=10 * track + number)
            path = folder / f"sentence {track}/{STEMS[place]}.wav"
            soundfile.write(path, stem, RATE, subtype="FLOAT")


def test_order_of_the_estimates_does_not_matter(dataset: StemDataset, tmp_path: Path) -> None:
    found = []
    for order, baselines in (((1, 2, 0), ["mixture"]), ((0, 2, 1), [])):
        name = "".join(map(str, order))
        write_estimates(tmp_path / name / "mine", order)
        evaluation = score(
            dataset, tmp_path / name / "mine", tmp_path / name / "out", baselines=baselines
        )
        assert evaluation.failures == []
        found.append(collect(evaluation.scores))
        saved = tmp_path / name / f"out/{RATE}/estimates.mine/estimates/test/sentence 0/s1.wav"
        original = tmp_path / name / f"mine/sentence 0/{STEMS[order[0]]}.wav"
        np.testing.assert_array_equal(soundfile.read(saved)[0], soundfile.read(original)[0])
    of_mine = [{key: of for key, of in one.items() if key.system == "mine"} for one in found]
    assert of_mine[0] == of_mine[1]
    # uniform(-0.2, 0.2) has an RMS of 0.1155, and the others together are 3 dB louder.
    for source, level in zip(STEMS, (0.02, 0.01, 0.005), strict=True):
        expected = 20 * math.log10(0.2 / math.sqrt(3) / level) + 10 * math.log10(2)
        for metric in IMPROVEMENT_METRICS:
            values = found[0][ScoreKey(RATE, "mine", source, metric)]
            assert list(values) == ["sentence 0", "sentence 1"]
            tolerance = 0.3 if metric == "si_snr_improvement" else 1.0
            assert list(values.values()) == pytest.approx([expected] * 2, abs=tolerance)
    of_mixture = found[0][ScoreKey(RATE, "mixture", ALL_SOURCES, "si_snr_improvement")]
    assert list(of_mixture.values()) == [0.0, 0.0]


def test_second_call_computes_nothing(dataset: StemDataset, tmp_path: Path) -> None:
    write_estimates(tmp_path / "mine", (1, 0, 2))
    assert score(dataset, tmp_path / "mine", tmp_path / "out").computed == 4
    assert score(dataset, tmp_path / "mine", tmp_path / "out").computed == 0
    path = tmp_path / f"out/{RATE}/mixture/test/sentence 0.json"
    content = json.loads(path.read_text())
    assert content["definitions"]["sdr_improvement"]["label"] == "SDRi"
    del content["sfisep"]["sources"]["s2"]["sdr_improvement"]
    path.write_text(json.dumps(content))
    assert score(dataset, tmp_path / "mine", tmp_path / "out").computed == 1


def test_all_sources_are_wanted(dataset: StemDataset, tmp_path: Path) -> None:
    write_estimates(tmp_path / "mine", (0, 1, 2))
    (tmp_path / "mine/sentence 1/s2.wav").unlink()
    failures = score(dataset, tmp_path / "mine", tmp_path / "out", baselines=[]).failures
    assert [(failure.track, failure.system) for failure in failures] == [("sentence 1", "mine")]
    assert failures[0].message == (
        "estimates of sentence 1: expected those of all sources, which have no names; found none "
        "of s2"
    )
