import math
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy.signal import lfilter

from sfisep_core.audio.resample import resample
from sfisep_core.errors import ConfigError
from sfisep_core.evaluation import museval_reference
from sfisep_core.evaluation.bss_eval import CONDITION_LIMIT, METRICS, BssEval, bss_eval
from sfisep_core.evaluation.museval_reference import museval_scores
from tests.benchmarks.bss_eval_condition import band_limited

pytestmark = pytest.mark.slow

RATE = 8000
FRAMES = 3

needs_museval = pytest.mark.skipif(
    None in (shutil.which("ffmpeg"), shutil.which("ffprobe")),
    reason="museval cannot be imported without ffmpeg and ffprobe",
)


def impulses(*positions: int, channels: int = 1) -> np.ndarray:
    """Sources with one impulse in each second, at a different place for each source and channel.

    More than 512 samples apart, no filter of 512 taps takes one to the other: all are orthogonal,
    with any delays, and the Gram matrix is that of white signals.
    """
    signals = np.zeros((len(positions), channels, FRAMES * RATE))
    for source, position in enumerate(positions):
        for channel in range(channels):
            signals[source, channel, position + 600 * channel :: RATE] = 1.0
    return signals


def delayed(signal: np.ndarray, delay: int) -> np.ndarray:
    return np.roll(signal, delay, axis=-1)


def assert_frames(values: np.ndarray, expected: float, *, source: int = 0) -> None:
    assert values[source] == pytest.approx(np.full(FRAMES, expected), abs=1e-9)


# Closed form.


@pytest.mark.parametrize("gain", [0.5, 0.999, 3.0, -1.0])
def test_gain_is_spatial_distortion(gain: float) -> None:
    references = impulses(1000, 5000)
    found = bss_eval(references, gain * references, sample_rate=RATE)
    for source in range(2):
        assert_frames(found.sdr, -20 * math.log10(abs(1 - gain)), source=source)
        assert_frames(found.isr, -20 * math.log10(abs(1 - gain)), source=source)
        assert found.sir[source].min() > 280
        assert found.sar[source].min() > 280
    assert found.condition == pytest.approx(1.0, abs=1e-9)
    assert not found.ill_conditioned


@pytest.mark.parametrize("leakage", [0.001, 0.1, 2.0])
def test_leakage_is_interference(leakage: float) -> None:
    references = impulses(1000, 5000)
    estimates = references + leakage * references[::-1]
    found = bss_eval(references, estimates, sample_rate=RATE)
    for source in range(2):
        assert_frames(found.sdr, -20 * math.log10(leakage), source=source)
        assert_frames(found.sir, -20 * math.log10(leakage), source=source)
        assert found.isr[source].min() > 280
        assert found.sar[source].min() > 280


def test_what_no_filter_makes_is_an_artifact() -> None:
    references = impulses(1000, 5000)
    estimates = references + 0.25 * references[::-1] + 0.1 * impulses(3000)
    found = bss_eval(references, estimates, sample_rate=RATE)
    assert_frames(found.sdr, -10 * math.log10(0.25**2 + 0.1**2))
    assert_frames(found.sir, -20 * math.log10(0.25))
    assert_frames(found.sar, 10 * math.log10((1 + 0.25**2) / 0.1**2))


def test_filter_of_512_taps_is_spatial_distortion_and_one_more_is_not() -> None:
    references = impulses(1000, 5000)
    filtered = 0.9 * references + 0.2 * delayed(references, 3) - 0.1 * delayed(references, 511)
    found = bss_eval(references, filtered, sample_rate=RATE)
    assert_frames(found.isr, -10 * math.log10(0.1**2 + 0.2**2 + 0.1**2))
    assert found.sar.min() > 280
    late = bss_eval(references, references + 0.1 * delayed(references, 512), sample_rate=RATE)
    assert_frames(late.sar, 20.0)
    assert late.isr.min() > 280
    longer = bss_eval(
        references, references + 0.1 * delayed(references, 512), sample_rate=RATE, filter_length=513
    )
    assert_frames(longer.isr, 20.0)
    assert longer.sar.min() > 280


def test_filter_fitted_over_the_track_meets_frames_that_end_in_silence() -> None:
    # Every impulse is 100 samples before the end of its frame, and its copy 200 samples later, in
    # the next one. The filter is (1, g), where g is 0.5 times what of the copies is in the track.
    references = impulses(RATE - 100, 1000)
    estimates = references.copy()
    estimates[0] += 0.5 * np.pad(references[0], ((0, 0), (200, 0)))[:, : FRAMES * RATE]
    gain = 0.5 * 2 / 3
    found = bss_eval(references, estimates, sample_rate=RATE)
    # A frame's projection is cut out with its tail, which holds the copy.
    assert_frames(found.isr, -20 * math.log10(gain))
    # What is left: the copy of the frame before, and the tail that the frame does not have.
    artifacts = np.array([gain**2, gain**2 + 0.25, gain**2 + 0.25])
    assert found.sar[0] == pytest.approx(10 * np.log10((1 + gain**2) / artifacts), abs=1e-9)


def test_channels_of_a_source_may_be_exchanged_and_other_sources_not() -> None:
    references = impulses(1000, 5000, channels=2)
    crossed = references + 0.1 * np.stack(
        [delayed(references[:, 0], 0), delayed(references[:, 1], 0)][::-1], axis=1
    )
    found = bss_eval(references, crossed, sample_rate=RATE)
    assert_frames(found.isr, 20.0)
    assert found.sir.min() > 280


def test_condition_is_the_ratio_of_the_extreme_eigenvalues() -> None:
    one, two = impulses(1000), impulses(5000)
    # Per delay, the Gram matrix is [[1, c], [c, c^2 + d^2]].
    c, d = 0.9, 1e-3
    references = np.concatenate([one, c * one + d * two])
    low, high = np.linalg.eigvalsh([[1, c], [c, c * c + d * d]])
    found = bss_eval(references, references + 0.1 * two, sample_rate=RATE)
    assert found.condition == pytest.approx(high / low, rel=1e-6)


# Rules.


def noise(sources: int, channels: int, frames: int, *, seed: int = 0) -> tuple[Any, Any]:
    """Coloured references, and estimates with filtering, leakage and noise; float32."""
    random = np.random.default_rng(seed).standard_normal((sources + 1, channels, frames))
    poles = 0.9 * np.arange(sources) / sources
    references = np.stack(
        [lfilter([0.1], [1, -p], x) for p, x in zip(poles, random[:-1], strict=True)]
    )
    estimates = lfilter([0.8, 0.1], [1], references) + 0.1 * references.sum(0) + 0.01 * random[-1]
    return references.astype(np.float32), estimates.astype(np.float32)


def test_only_what_is_asked_for_is_computed() -> None:
    references, estimates = noise(2, 1, 2 * RATE)
    all_four = bss_eval(references, estimates, sample_rate=RATE)
    sdr = bss_eval(references, estimates, sample_rate=RATE, metrics=("sdr",))
    np.testing.assert_array_equal(sdr.sdr, all_four.sdr)
    assert np.isnan([sdr.isr, sdr.sir, sdr.sar]).all()
    assert math.isnan(sdr.condition)
    assert not sdr.ill_conditioned
    isr = bss_eval(references, estimates, sample_rate=RATE, metrics=("isr",))
    np.testing.assert_array_equal(isr.isr, all_four.isr)
    assert np.isnan([isr.sdr, isr.sir, isr.sar]).all()


@pytest.mark.parametrize("silenced", ["reference", "estimate", "antiphase"])
def test_silent_frame_is_nan_for_all_sources(silenced: str) -> None:
    references, estimates = noise(2, 2, 3 * RATE)
    signal = estimates[1] if silenced == "estimate" else references[1]
    signal[:, RATE : 2 * RATE] *= 0
    if silenced == "antiphase":  # the channels sum to zero, which museval takes for silence
        signal[:, RATE : 2 * RATE] = [[0.5], [-0.5]]
    found = bss_eval(references, estimates, sample_rate=RATE)
    for name in METRICS:
        np.testing.assert_array_equal(
            np.isnan(getattr(found, name)), [[False, True, False]] * 2, strict=True
        )
    assert found.num_silent_frames == 1


def test_silent_source_is_left_out_and_its_leakage_given() -> None:
    references, estimates = noise(3, 2, 2 * RATE)
    references[1] = 0
    estimates[1] = 0.01 * references.sum(0)
    found = bss_eval(references, estimates, sample_rate=RATE, sources=("bass", "piano", "voice"))
    others = bss_eval(references[[0, 2]], estimates[[0, 2]], sample_rate=RATE)
    for name in METRICS:
        np.testing.assert_allclose(getattr(found, name)[[0, 2]], getattr(others, name), rtol=1e-9)
        assert np.isnan(getattr(found, name)[1]).all()
    assert found.silent_sources == ("piano",)
    assert found.leakage_db == {"piano": pytest.approx(-40.0, abs=1e-5)}
    assert found.num_silent_frames == 0
    estimates[1] = 0
    assert bss_eval(references, estimates, sample_rate=RATE).leakage_db == {"1": -math.inf}


def test_silent_estimate_is_not_scored_but_its_reference_interferes() -> None:
    references = impulses(1000, 3000, 5000)
    estimates = references + 0.1 * references[[1, 0, 0]]
    estimates[1] = 0
    found = bss_eval(references, estimates, sample_rate=RATE)
    assert found.silent_estimates == ("1",)
    assert found.silent_sources == ()
    assert np.isnan(found.sdr[1]).all()
    assert_frames(found.sir, 20.0, source=0)


def test_track_without_any_sound_has_no_scores() -> None:
    found = bss_eval(np.zeros((2, 1, 2 * RATE)), np.zeros((2, 1, 2 * RATE)), sample_rate=RATE)
    assert np.isnan(found.sdr).all()
    assert found.num_silent_frames == 2
    assert found.silent_sources == ("0", "1")
    assert all(map(math.isnan, found.leakage_db.values()))


def test_one_source_has_no_interference() -> None:
    references, estimates = noise(1, 2, RATE)
    found = bss_eval(references, estimates, sample_rate=RATE)
    assert found.sir.min() > 200
    assert np.isfinite([found.sdr, found.isr, found.sar]).all()


@pytest.mark.parametrize(
    ("frames", "seconds", "hop", "expected"),
    [(16000, 1.0, 1.0, 2), (15999, 1.0, 1.0, 1), (3000, 1.0, 1.0, 1), (16000, 1.0, 0.5, 3)],
)
def test_number_of_frames(frames: int, seconds: float, hop: float, expected: int) -> None:
    references, estimates = noise(2, 1, frames)
    found = bss_eval(
        references,
        estimates,
        sample_rate=RATE,
        metrics=("sdr",),
        window_seconds=seconds,
        hop_seconds=hop,
    )
    assert found.sdr.shape == (2, expected)


def test_references_upsampled_from_32_khz_are_flagged() -> None:
    # As in a recording, nothing begins or ends at once: that would fill the whole band.
    references, estimates = (x * np.hanning(32000) for x in noise(2, 1, 32000))
    assert not bss_eval(references, estimates, sample_rate=32000).ill_conditioned
    up = [
        np.stack([resample(x, orig_rate=32000, target_rate=48000) for x in signals])
        for signals in (references, estimates)
    ]
    found = bss_eval(*up, sample_rate=48000)
    assert found.ill_conditioned
    assert found.condition > CONDITION_LIMIT
    # Where museval's values move by tens of dB, these stay.
    generator = np.random.default_rng(1)
    moved = up[0].astype(np.float64)
    moved += 1e-12 * generator.standard_normal(moved.shape)
    again = bss_eval(moved, up[1], sample_rate=48000)
    for name in METRICS:
        np.testing.assert_allclose(getattr(again, name), getattr(found, name), rtol=0, atol=1e-3)


def test_two_channels_that_are_the_same_are_flagged_with_the_scores_of_one() -> None:
    references, estimates = noise(2, 1, RATE)
    one = bss_eval(references, estimates, sample_rate=RATE)
    two = bss_eval(references.repeat(2, 1), estimates.repeat(2, 1), sample_rate=RATE)
    assert two.ill_conditioned
    assert not one.ill_conditioned
    for name in METRICS:
        np.testing.assert_allclose(getattr(two, name), getattr(one, name), rtol=0, atol=1e-3)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"estimates": np.ones((3, 1, 100))}, r"\(2, 1, 100\) and estimates \(3, 1, 100\)"),
        ({"references": np.ones((2, 100))}, r"expected shape \(source, channel, time\)"),
        ({"references": np.ones((2, 1, 0))}, "at least one source, channel and sample"),
        ({"sources": ("bass", "bass")}, "2 different names of sources, got bass, bass"),
        ({"metrics": ("sdr", "pesq")}, "expected metrics of sdr, isr, sir, sar; got sdr, pesq"),
        ({"metrics": ()}, "got none"),
        ({"window_seconds": 1e-5}, "of at least one sample, got 0"),
        ({"device": "mps"}, "computes in float64, cpu or cuda, got mps"),
        (
            {"estimates": np.stack([np.ones((1, 100)), np.full((1, 100), np.nan)])},
            "the estimate of 1 holds NaN or inf",
        ),
    ],
)
def test_wrong_arguments_are_named(changes: dict[str, Any], message: str) -> None:
    arguments = {"references": np.ones((2, 1, 100)), "estimates": np.ones((2, 1, 100))} | changes
    signals = arguments.pop("references"), arguments.pop("estimates")
    with pytest.raises(ConfigError, match=message):
        bss_eval(*signals, sample_rate=RATE, **arguments)  # type: ignore[arg-type]


_PEAK = f"""
import resource
import numpy as np
from sfisep_core.evaluation.bss_eval import bss_eval
x = np.random.default_rng(0).standard_normal((2, 4, 2, 20 * {RATE}), dtype=np.float32)
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
bss_eval(x[0], x[1], sample_rate={RATE}, window_seconds=20.0)
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="ru_maxrss is in KiB on Linux alone")
def test_memory_stays_below_what_is_promised() -> None:
    run = subprocess.run(
        [sys.executable, "-c", _PEAK],
        cwd=Path(__file__).resolve().parents[2],
        capture_output=True,
        text=True,
        check=True,
    )
    # Whole signals in float64 would be 20 MB, their spectra as much again.
    assert 1024 * int(run.stdout) < 3e7 + 5e6 * 8 + 1e5 * 8**2


# The reference.


@pytest.mark.parametrize("name", ["plain", "silent_second", "short_estimate"])
def test_fixture(shared_dir: Path, name: str) -> None:
    data = np.load(shared_dir / f"fixtures/seeds/bsseval_{name}.npz", allow_pickle=False)
    references, estimates = (
        data[f"input/{key}"].transpose(0, 2, 1) for key in ("references", "estimates")
    )
    found = bss_eval(references, estimates, sample_rate=RATE)
    assert found.condition < CONDITION_LIMIT
    assert found.num_silent_frames == (0 if name == "plain" else 1)
    for metric in METRICS:
        _assert_close(getattr(found, metric), data[f"output/{metric.upper()}"], metric)


def test_fixture_with_one_stem_silenced(shared_dir: Path) -> None:
    data = np.load(shared_dir / "fixtures/seeds/bsseval_short_estimate.npz", allow_pickle=False)
    references, estimates = (
        data[f"input/{key}"].transpose(0, 2, 1).copy() for key in ("references", "estimates")
    )
    references[2] = 0
    found = bss_eval(references, estimates, sample_rate=RATE)
    for metric in METRICS:
        expected = data[f"output/three_stems/{metric.upper()}"]
        _assert_close(getattr(found, metric)[[0, 1, 3]], expected, metric)


@needs_museval
@pytest.mark.parametrize(
    ("sources", "channels", "sample_rate", "frames", "estimate_frames", "hop"),
    [
        (2, 1, 8000, 16000, 16000, 1.0),  # mono, whole frames
        (2, 2, 8000, 20001, 17003, 1.0),  # odd lengths, estimate shorter: its last frame counts
        (3, 1, 8000, 24000, 15000, 0.5),  # estimate ends before the last frames
        (2, 1, 44100, 100003, 120000, 1.0),  # estimate longer
        (2, 2, 8000, 3001, 3001, 1.0),  # shorter than a frame
        (2, 1, 11025, 23000, 23000, 0.7),  # frames that do not begin at whole samples
        (1, 2, 8000, 9000, 9000, 1.0),
    ],
)
def test_same_as_museval(
    sources: int, channels: int, sample_rate: int, frames: int, estimate_frames: int, hop: float
) -> None:
    references, estimates = noise(sources, channels, max(frames, estimate_frames), seed=frames)
    references, estimates = references[:, :, :frames], estimates[:, :, :estimate_frames]
    arguments = {"sample_rate": sample_rate, "hop_seconds": hop}
    found = bss_eval(references, estimates, **arguments)  # type: ignore[arg-type]
    expected = museval_scores(references, estimates, **arguments)  # type: ignore[arg-type]
    assert found.condition < CONDITION_LIMIT
    assert found.num_silent_frames == expected.num_silent_frames
    for metric in METRICS:
        if metric != "sir" or sources > 1:
            _assert_close(getattr(found, metric), getattr(expected, metric), metric)


@needs_museval
@pytest.mark.parametrize("difference", [1e-2, 1e-3, 1e-4])
def test_same_as_museval_for_sources_that_are_nearly_the_same(difference: float) -> None:
    references, estimates = noise(2, 1, 16000)
    references[1] = references[0] + difference * references[1]
    found = bss_eval(references, estimates, sample_rate=RATE)
    expected = museval_scores(references, estimates, sample_rate=RATE)
    assert 10 / difference**2 < found.condition < CONDITION_LIMIT
    for metric in METRICS:
        _assert_close(getattr(found, metric), getattr(expected, metric), metric)


@needs_museval
@pytest.mark.parametrize(
    ("level", "condition", "tolerance"),
    # museval's own values move by 2e-5 and 2e-4 dB where noise of 1e-16 is added.
    [(1.3e-5, 5e10, 2e-4), (3.4e-6, 7e11, 2e-3)],
)
def test_same_as_museval_for_references_with_little_in_half_of_the_band(
    level: float, condition: float, tolerance: float
) -> None:
    references, estimates = band_limited(level, seconds=1)
    found = bss_eval(references, estimates, sample_rate=RATE)
    expected = museval_scores(references, estimates, sample_rate=RATE)
    assert found.condition == pytest.approx(condition, rel=0.5)
    assert not found.ill_conditioned
    np.testing.assert_allclose(found.sdr, expected.sdr, rtol=0, atol=1e-9)
    for metric in ("isr", "sir", "sar"):
        np.testing.assert_allclose(
            getattr(found, metric), getattr(expected, metric), rtol=0, atol=tolerance
        )


def test_condition_beyond_the_limit_is_flagged() -> None:
    found = bss_eval(*band_limited(3e-7, seconds=1), sample_rate=RATE)
    assert found.condition == pytest.approx(6e13, rel=0.5)
    assert found.ill_conditioned


@needs_museval
def test_museval_says_what_it_refuses() -> None:
    references, estimates = noise(2, 1, 2000)
    references[0] = 0
    with pytest.raises(ConfigError, match="museval refuses a track of 2 sources: All the ref"):
        museval_scores(references, estimates, sample_rate=RATE)


def test_museval_without_ffmpeg_is_a_clear_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(museval_reference.shutil, "which", lambda _: None)
    with pytest.raises(ConfigError, match="not found: ffmpeg, ffprobe; install them"):
        museval_scores(*noise(2, 1, 2000), sample_rate=RATE)


def test_result_names_what_was_scored() -> None:
    found: BssEval = bss_eval(*noise(2, 1, RATE), sample_rate=RATE, sources=["bass", "voice"])
    assert found.sources == ("bass", "voice")
    assert (found.sample_rate, found.window_seconds, found.hop_seconds) == (RATE, 1.0, 1.0)


def _assert_close(found: np.ndarray, expected: np.ndarray, metric: str) -> None:
    tolerance = 1e-9 if metric == "sdr" else 1e-3
    np.testing.assert_allclose(found, expected, rtol=0, atol=tolerance, equal_nan=True)
