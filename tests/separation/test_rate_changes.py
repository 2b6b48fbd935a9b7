"""What the methods give the model, and what they do with its stems."""

from dataclasses import fields
from typing import Any, get_args

import numpy as np
import pytest
import torch

from sfisep_core.audio.kernel_noise import kernel_noise
from sfisep_core.audio.resample import resample, sinc_resample
from sfisep_core.audio.stores import Signal, Store
from sfisep_core.errors import ConfigError
from sfisep_core.models.contract import GainRule
from sfisep_core.separation import methods, overlap_add
from sfisep_core.separation.methods import METHODS
from sfisep_core.separation.settings import OPTIONS_OF, MethodName, MethodOptions
from tests.separation.divider import SHARES, Divider, Samples, decibels, noise, separated

NATIVE = 8000  # of the model
RESAMPLING: list[MethodName] = ["resample", "soxr", "noisy-kernel", "post-noise"]
ADDING: list[MethodName] = ["noisy-kernel", "post-noise"]


def heard(name: MethodName, mixture: Samples, rate: int, **options: Any) -> Samples:
    """Give what the model is given when it separates all at once."""
    model = Divider()
    every = MethodOptions(**options)
    separated(model, mixture, method=name, sample_rate=rate, segment=0, options=every)
    assert model.rates == [rate if name == "native" else NATIVE]
    return model.heard[0][0].numpy()


def sinc(signal: Samples, orig_rate: int, target_rate: int, length: int | None = None) -> Samples:
    return sinc_resample(
        torch.from_numpy(signal), orig_rate=orig_rate, target_rate=target_rate, length=length
    ).numpy()


@pytest.mark.parametrize("name", METHODS)
@pytest.mark.parametrize("gain_rule", ["least-squares", "mixture-consistent"])
@pytest.mark.parametrize("rate", [4000, 7993, 8000, 11025, 44101])
@pytest.mark.parametrize("frames", [0, 1, 2, 5003])
def test_length_channels_and_consistency_are_kept(
    name: MethodName, gain_rule: GainRule, rate: int, frames: int
) -> None:
    mixture = noise(2, frames)
    original = mixture.copy()
    model = Divider(gain_rule=gain_rule)
    stems = separated(model, mixture, method=name, sample_rate=rate)
    assert stems.shape == (2, 2, frames)
    assert stems.dtype == np.float32
    assert np.isfinite(stems).all()
    np.testing.assert_array_equal(mixture, original)
    assert set(model.rates) <= {rate if name == "native" else NATIVE}
    if frames > 0 and (gain_rule == "mixture-consistent" or name in ("native", "direct")):
        assert decibels(stems.sum(axis=0) - mixture, mixture) < -120


@pytest.mark.parametrize("name", METHODS)
@pytest.mark.parametrize("gain_rule", ["least-squares", "mixture-consistent"])
@pytest.mark.parametrize("rate", [4000, 11025])
def test_silence_stays_silent(name: MethodName, gain_rule: GainRule, rate: int) -> None:
    model = Divider(gain_rule=gain_rule, normalizes_level=True)
    mixture = np.zeros((2, 3000), dtype=np.float32)
    stems = separated(model, mixture, method=name, sample_rate=rate)
    np.testing.assert_array_equal(stems, np.zeros((2, 2, 3000)))
    mixture[0] = noise(3000)  # a silent channel stays so beside another
    stems = separated(model, mixture, method=name, sample_rate=rate)
    assert np.abs(stems[:, 0]).max() > 0.1
    np.testing.assert_array_equal(stems[:, 1], np.zeros((2, 3000)))


@pytest.mark.parametrize("gain_rule", ["least-squares", "mixture-consistent"])
def test_all_methods_are_the_same_at_the_native_rate(gain_rule: GainRule) -> None:
    mixture = noise(2, 40_000)
    model = Divider(gain_rule=gain_rule, normalizes_level=True)
    expected = separated(model, mixture, method="native", sample_rate=NATIVE)
    for name in METHODS:
        stems = separated(model, mixture, method=name, sample_rate=NATIVE)
        np.testing.assert_array_equal(stems, expected)


@pytest.mark.parametrize("name", ["native", "direct"])
@pytest.mark.parametrize("rate", [4000, 11025])
def test_methods_that_do_not_resample_give_the_model_the_samples(
    name: MethodName, rate: int
) -> None:
    mixture = noise(2, 3000)
    np.testing.assert_array_equal(heard(name, mixture, rate), mixture)
    stems = separated(Divider(), mixture, method=name, sample_rate=rate)
    np.testing.assert_allclose(stems, [share * mixture for share in SHARES], atol=1e-6)


@pytest.mark.parametrize("name", METHODS)
@pytest.mark.parametrize("rate", [4000, 11025])
def test_progress_counts_the_seconds_of_the_recording(name: MethodName, rate: int) -> None:
    calls: list[tuple[float, float]] = []
    separated(
        Divider(),
        noise(1, 20 * rate),
        method=name,
        sample_rate=rate,
        progress=lambda done, total: calls.append((done, total)),
    )
    assert [total for _, total in calls] == pytest.approx([20] * len(calls))
    assert calls[-1][0] == calls[-1][1]
    # Segments of 2 s in the model's time, or a little less to come out even: direct makes a
    # recording at half the rate half as long.
    seconds = 2 * NATIVE / rate if name == "direct" else 2
    assert calls[1][0] - calls[0][0] == pytest.approx(seconds, rel=0.03)


@pytest.mark.parametrize("name", RESAMPLING)
def test_down_and_back_is_a_low_pass_and_adds_no_noise(name: MethodName) -> None:
    time = np.arange(22050) / 22050
    inner = slice(500, -500)
    model = Divider(gain_rule="least-squares")
    tone = np.sin(2 * np.pi * 440 * time).astype(np.float32)[None]
    stems = separated(model, tone, method=name, sample_rate=22050)
    assert decibels((stems.sum(axis=0) - tone)[:, inner], tone[:, inner]) < -40
    above = np.sin(2 * np.pi * 6000 * time).astype(np.float32)[None]
    stems = separated(model, above, method=name, sample_rate=22050)
    # Nothing at 4 kHz or above can come back, and the gains are fitted at 8 kHz.
    assert decibels(stems[:, 0, inner], above[:, inner]) < -20
    if name in ADDING:
        mixture = noise(2, 5000)
        stems = separated(model, mixture, method=name, sample_rate=22050)
        expected = separated(model, mixture, method="resample", sample_rate=22050)
        np.testing.assert_array_equal(stems, expected)


@pytest.mark.parametrize("rate", [5000, 11025])
def test_resample_and_soxr_use_the_filter_they_name(rate: int) -> None:
    mixture = noise(2, 3000)
    np.testing.assert_array_equal(heard("resample", mixture, rate), sinc(mixture, rate, NATIVE))
    expected = resample(mixture, orig_rate=rate, target_rate=NATIVE)
    np.testing.assert_array_equal(heard("soxr", mixture, rate), expected)
    model = Divider(shares=(1.0,), gain_rule="least-squares")
    (stem,) = separated(model, mixture, method="soxr", sample_rate=rate)
    back = resample(expected, orig_rate=NATIVE, target_rate=rate, length=3000)
    np.testing.assert_allclose(stem, back, atol=1e-5)
    (stem,) = separated(model, mixture, method="resample", sample_rate=rate)
    back = sinc(sinc(mixture, rate, NATIVE), NATIVE, rate, 3000)
    np.testing.assert_allclose(stem, back, atol=1e-5)


def test_rates_without_a_common_divisor_are_resampled_with_soxr() -> None:
    mixture = noise(2, 44101)
    model = Divider()
    stems = separated(model, mixture, method="resample", sample_rate=44101)
    assert decibels(stems.sum(axis=0) - mixture, mixture) < -120
    expected = resample(mixture, orig_rate=44101, target_rate=8000)
    np.testing.assert_array_equal(model.heard[0][0].numpy(), expected)


@pytest.mark.parametrize("name", ADDING)
@pytest.mark.parametrize("rate", [4000, 5000, 7993])
def test_no_noise_at_level_zero(name: MethodName, rate: int) -> None:
    mixture, model = noise(2, 5000), Divider()
    options = MethodOptions(kernel_noise_level=0, post_noise_level=0)
    stems = separated(model, mixture, method=name, sample_rate=rate, options=options)
    expected = separated(model, mixture, method="resample", sample_rate=rate)
    np.testing.assert_array_equal(stems, expected)


@pytest.mark.parametrize("rate", [5000, 7993])  # the second goes through soxr
def test_noisy_kernel_adds_to_what_resampling_gives(rate: int) -> None:
    mixture = noise(2, 5000)
    expected = heard("resample", mixture, rate) + kernel_noise(
        mixture, orig_rate=rate, target_rate=NATIVE, level=0.3, seed=7
    )
    result = heard("noisy-kernel", mixture, rate, kernel_noise_level=0.3, seed=7)
    np.testing.assert_array_equal(result, expected)
    other_seed = heard("noisy-kernel", mixture, rate, kernel_noise_level=0.3, seed=8)
    assert decibels(other_seed - result, result) > -20


def test_noisy_kernel_fills_the_band_that_the_rate_lacks() -> None:
    rate = 2205  # 1600 phases to 8 kHz: what one seed gives is close to the mean over seeds
    mixture = noise(1, 10 * rate)
    without = heard("resample", mixture, rate)
    model_input = heard("noisy-kernel", mixture, rate, kernel_noise_level=0.2)
    missing = np.fft.rfftfreq(without.shape[1], 1 / NATIVE) > 0.6 * rate
    power = np.abs(np.fft.rfft(model_input.astype(np.float64)))[0] ** 2
    before = np.abs(np.fft.rfft(without.astype(np.float64)))[0] ** 2
    expected = 0.2**2 * before.sum() * missing.mean()
    assert before[missing].sum() < 0.01 * expected
    assert power[missing].sum() == pytest.approx(expected, rel=0.05)


def test_post_noise_has_its_level_in_every_channel() -> None:
    mixture = noise(3, 20_000) * np.array([[1.0], [100.0], [0.0]], dtype=np.float32)
    without = heard("resample", mixture, 5000).astype(np.float64)
    added = heard("post-noise", mixture, 5000, post_noise_level=0.2, seed=1) - without
    rms, expected = (np.sqrt(np.mean(signal**2, axis=1)) for signal in (added, without))
    assert rms[2] == 0
    np.testing.assert_allclose(rms[:2], 0.2 * expected[:2], rtol=0.02)
    assert np.corrcoef(added[0], added[1])[0, 1] > 0.9999
    assert abs(np.corrcoef(added[0], without[0])[0, 1]) < 0.02
    spectrum = np.abs(np.fft.rfft(added[0])) ** 2
    half = len(spectrum) // 2
    assert spectrum[:half].sum() == pytest.approx(spectrum[half:].sum(), rel=0.05)  # white
    again = heard("post-noise", mixture, 5000, post_noise_level=0.2, seed=1) - without
    other = heard("post-noise", mixture, 5000, post_noise_level=0.2, seed=2) - without
    np.testing.assert_array_equal(again, added)
    assert abs(np.corrcoef(other[0], added[0])[0, 1]) < 0.02


@pytest.mark.parametrize("name", METHODS)
def test_channels_do_not_depend_on_each_other(name: MethodName) -> None:
    mixture, model = noise(2, 3000), Divider(normalizes_level=True, gain_rule="least-squares")
    both = separated(model, mixture, method=name, sample_rate=5000)
    alone = separated(model, mixture[1:], method=name, sample_rate=5000)
    np.testing.assert_allclose(both[:, 1:], alone, atol=1e-6)


@pytest.mark.parametrize("name", METHODS)
def test_noise_does_not_depend_on_segments(name: MethodName) -> None:
    mixture, model = noise(1, 30_000), Divider()
    whole = separated(model, mixture, method=name, sample_rate=5000, segment=0)
    cut = separated(model, mixture, method=name, sample_rate=5000, segment=0.5)
    assert len(model.heard) >= 5
    np.testing.assert_allclose(cut, whole, atol=1e-5)


# Super-resolution shares everything out in the model that it is.
@pytest.mark.parametrize("name", [name for name in METHODS if not name.startswith("super")])
@pytest.mark.parametrize("rate", [5000, 11025])
@pytest.mark.parametrize("gain_rule", ["least-squares", "mixture-consistent"])
def test_gain_rule_comes_at_the_same_place(
    name: MethodName, rate: int, gain_rule: GainRule, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[tuple[Samples, int]] = []

    def spy(rule: GainRule, stems: Store, mixture: Signal, *, sample_rate: int) -> None:
        assert rule == gain_rule
        calls.append((mixture.read(0, mixture.frames).copy(), sample_rate))
        apply(rule, stems, mixture, sample_rate=sample_rate)

    mixture = noise(2, 3000)
    model_input = heard(name, mixture, rate)
    apply = methods.apply_gain_rule
    for module in (methods, overlap_add):
        monkeypatch.setattr(module, "apply_gain_rule", spy)
    model = Divider(gain_rule=gain_rule, normalizes_level=True)
    separated(model, mixture, method=name, sample_rate=rate, segment=0)
    (at_separation, at_rate), *later = calls
    np.testing.assert_array_equal(at_separation, model_input)
    assert at_rate == model.rates[0] == (rate if name == "native" else NATIVE)
    if name in RESAMPLING and gain_rule == "mixture-consistent":
        ((at_the_end, end_rate),) = later
        np.testing.assert_array_equal(at_the_end, mixture)
        assert end_rate == rate
    else:
        assert not later


# Super-resolution, which needs two sources: tests/models/test_super_resolved.py.
@pytest.mark.parametrize("name", ["native", *RESAMPLING, "direct"])
@pytest.mark.parametrize("rate", [5000, 11025])
def test_least_squares_gains_make_up_for_any_scale(name: MethodName, rate: int) -> None:
    mixture = noise(2, 3000)
    expected, stems = (
        separated(
            Divider(shares=(share,), gain_rule="least-squares"),
            mixture,
            method=name,
            sample_rate=rate,
        )
        for share in (1.0, -7.0)
    )
    np.testing.assert_allclose(stems, expected, atol=1e-5)


def test_options_are_told_of_methods_and_fields_that_exist() -> None:
    assert list(METHODS) == list(get_args(MethodName))
    assert set(OPTIONS_OF) < set(METHODS)
    used = {name for names in OPTIONS_OF.values() for name in names}
    assert used == {field.name for field in fields(MethodOptions)}


@pytest.mark.parametrize("name", METHODS)
def test_methods_depend_on_no_other_options_than_they_say(name: MethodName) -> None:
    mixture, model = noise(2, 3000), Divider()
    changes = {
        "kernel_noise_level": 0.9,
        "post_noise_level": 0.9,
        "seed": 3,
        "low_rate": 4500,
    }
    expected = separated(model, mixture, method=name, sample_rate=5000)
    for option, value in changes.items():
        options = MethodOptions(**{option: value})  # type: ignore[arg-type]
        stems = separated(model, mixture, method=name, sample_rate=5000, options=options)
        assert np.array_equal(stems, expected) == (option not in OPTIONS_OF.get(name, ())), option


def test_unknown_methods_and_options_out_of_range() -> None:
    with pytest.raises(ConfigError, match=r"^method 'best': expected one of native, resample, "):
        separated(Divider(), noise(1, 10), method="best", sample_rate=NATIVE)
    for name in ("kernel_noise_level", "post_noise_level"):
        for level in (-0.1, np.nan, np.inf):
            with pytest.raises(ConfigError, match=rf"^{name}: expected a number of 0 "):
                MethodOptions(**{name: level})  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match=r"^seed: expected a whole number of 0 or more, got -1$"):
        MethodOptions(seed=-1)
