import itertools
import math
from collections.abc import Callable
from dataclasses import fields, replace
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from sfisep_core.data.augmentation import (
    Changes,
    ChannelDraw,
    choose_channels,
    choose_muted,
    draw_changes,
    draw_givers,
    draw_levels,
    draw_step,
)
from sfisep_core.data.layouts import STEMS
from sfisep_core.data.mixing_config import MixingConfig, play_rate
from sfisep_core.errors import ConfigError

PROBABILITIES = [f.name for f in fields(MixingConfig) if f.name.endswith("_probability")]
OFF = MixingConfig(**dict.fromkeys(PROBABILITIES, 0.0))

Draws = npt.NDArray[np.float64]


def changes(config: MixingConfig, *, examples: int = 500) -> list[Changes]:
    return [draw_changes(STEMS, config, seed=3, step=4, example=i) for i in range(examples)]


def assert_share(drawn: Any, probability: float) -> None:
    """Check a share of independent draws: it is within four standard deviations."""
    drawn = np.asarray(drawn)
    assert drawn.dtype == bool
    deviation = math.sqrt(probability * (1 - probability) / drawn.size)
    assert drawn.mean() == pytest.approx(probability, abs=4 * deviation)


def assert_uniform(values: Draws, low: float, high: float) -> None:
    """Compare with the uniform distribution after Kolmogorov and Smirnov, at one in 10^5."""
    shares = (np.sort(values, axis=None) - low) / (high - low)
    steps = np.arange(shares.size + 1) / shares.size
    assert shares[0] >= -1e-6
    assert shares[-1] <= 1 + 1e-6
    distance = max(np.abs(shares - steps[1:]).max(), np.abs(shares - steps[:-1]).max())
    assert distance < 2.47 / math.sqrt(shares.size)


@pytest.mark.parametrize("name", PROBABILITIES)
@pytest.mark.parametrize("value", [-0.1, 1.1, math.nan])
def test_impossible_probability_is_refused(name: str, value: float) -> None:
    with pytest.raises(ConfigError) as raised:
        MixingConfig(**{name: value})
    default = getattr(MixingConfig(), name)
    assert str(raised.value) == (
        f"training setting mixing.{name}: expected 0 to 1, got {value}"
        f": leave it out for the default, {default}"
    )


SPEEDS = ": leave it out for the default, [0.8, 0.9, 1.0, 1.0, 1.1, 1.25]"
RATES = ": leave it out for the default, [8000, 11025, 16000, 22050, 24000, 32000]"


@pytest.mark.parametrize(
    ("name", "value", "expected"),
    [
        ("gain_db", -0.1, "0 to 60, got -0.1: leave it out for the default, 4.0"),
        ("gain_db", math.nan, "0 to 60, got nan: leave it out for the default, 4.0"),
        ("gain_db", math.inf, "0 to 60, got inf: leave it out for the default, 4.0"),
        ("equalizer_db", 20.5, "0 to 20, got 20.5: leave it out for the default, 6.0"),
        ("shift_seconds", -1.0, "0 to 3600, got -1.0: leave it out for the default, 0.5"),
        (
            "excerpt_seconds",
            0.0,
            "above 0 and at most 3600, got 0.0: leave it out for the default, 3.0",
        ),
        (
            "excerpt_seconds",
            math.nan,
            "above 0 and at most 3600, got nan: leave it out for the default, 3.0",
        ),
        ("speeds", (), "one value or more, got none"),
        ("speeds", (1.0, -1.0), f"0.1 to 10, got [1.0, -1.0]{SPEEDS}"),
        ("speeds", (1.0, 0.05), f"0.1 to 10, got [1.0, 0.05]{SPEEDS}"),
        ("sample_rates", (8000, 0), f"1 to 384000, got [8000, 0]{RATES}"),
        ("channels", 3, "1 or 2, got 3: leave it out for the default, 1"),
    ],
)
def test_impossible_setting_is_refused(name: str, value: Any, expected: str) -> None:
    with pytest.raises(ConfigError) as raised:
        MixingConfig(**{name: value})
    assert str(raised.value) == f"training setting mixing.{name}: expected {expected}"


def test_stored_seconds_cover_the_fastest_speed() -> None:
    config = MixingConfig(excerpt_seconds=2.0, speeds=(0.5, 0.75, 1.5))
    assert config.stored_seconds == 3.0
    assert replace(config, speed_probability=0.0).stored_seconds == 2.0
    # Where the speed may stay as it is, that counts.
    slow = replace(config, speeds=(0.5,))
    assert slow.stored_seconds == 1.0
    assert replace(slow, speed_probability=0.5).stored_seconds == 2.0


def test_resampled_pairs_are_all_that_steps_need() -> None:
    config = MixingConfig(sample_rates=(8000, 11025), speeds=(0.8, 1.0), lowpass_probability=0.0)
    played = {(25600, 8000), (25600, 11025), (32000, 8000), (32000, 11025)}
    assert config.resampled_pairs(32000) == played
    limits = {(8000, 11025), (11025, 8000)}
    assert replace(config, lowpass_probability=0.1).resampled_pairs(32000) == played | limits
    unchanged = {(32000, 8000), (32000, 11025)}
    assert replace(config, speed_probability=0.0).resampled_pairs(32000) == unchanged


def test_a_step_is_a_function_of_seed_and_number() -> None:
    config = MixingConfig(speed_probability=0.5, lowpass_probability=0.5)
    draws = [draw_step(config, seed=5, step=step) for step in range(50)]
    assert draws == [draw_step(config, seed=5, step=step) for step in range(50)]
    assert draws != [draw_step(config, seed=6, step=step) for step in range(50)]
    assert len(set(draws)) > 20


@pytest.mark.slow
def test_what_a_step_draws() -> None:
    config = MixingConfig(
        speed_probability=0.7,
        speeds=(0.8, 1.25),
        sample_rates=(8000, 16000, 32000),
        lowpass_probability=0.4,
    )
    draws = [draw_step(config, seed=0, step=step) for step in range(4000)]
    for rate in config.sample_rates:
        assert_share([draw.sample_rate == rate for draw in draws], 1 / 3)
    for speed, share in ((0.8, 0.35), (1.25, 0.35), (1.0, 0.3)):
        assert_share([draw.speed == speed for draw in draws], share)
    for rate, limit, share in (
        (8000, 0, 1.0),
        (16000, 0, 0.6),
        (16000, 8000, 0.4),
        (32000, 0, 0.6),
        (32000, 8000, 0.2),
        (32000, 16000, 0.2),
    ):
        assert_share([d.band_limit == limit for d in draws if d.sample_rate == rate], share)


def test_switched_off_a_step_draws_its_rate_only() -> None:
    for step in range(100):
        draw = draw_step(OFF, seed=0, step=step)
        assert (draw.speed, draw.band_limit) == (1.0, 0)
        plain = draw_step(MixingConfig(), seed=0, step=step)
        assert draw.sample_rate == plain.sample_rate


def test_switched_off_nothing_is_changed() -> None:
    for change in changes(OFF, examples=20):
        np.testing.assert_array_equal(change.gains, np.ones(4))
        np.testing.assert_array_equal(change.curves, np.zeros((4, 8)))
        assert change.channels == 4 * (ChannelDraw(take=None, swap=False),)
        assert change.gains.dtype == change.curves.dtype == np.float32


def test_changes_are_a_function_of_seed_step_and_example() -> None:
    everything = MixingConfig(**dict.fromkeys(PROBABILITIES, 0.5))

    def drawn(seed: int, step: int, example: int) -> tuple[float, ...]:
        change = draw_changes(STEMS, everything, seed=seed, step=step, example=example)
        numbers = [change.gains, change.curves, [d.swap + (d.take or 0) for d in change.channels]]
        return tuple(np.concatenate([np.ravel(part) for part in numbers]))

    keys = list(itertools.product(range(3), repeat=3))
    assert [drawn(*key) for key in keys] == [drawn(*key) for key in keys]
    assert len({drawn(*key) for key in keys}) == len(keys)


def test_gain_is_uniform_in_decibels() -> None:
    config = replace(OFF, gain_probability=1.0, gain_db=5.0)
    gains = np.stack([change.gains for change in changes(config)]).astype(float)
    assert_uniform(20 * np.log10(gains), -5.0, 5.0)
    # Each stem has its own: the columns do not go together (1 / sqrt(500) = 0.045).
    assert np.abs(np.corrcoef(np.log10(gains.T)) - np.eye(4)).max() < 0.2


@pytest.mark.slow
@pytest.mark.parametrize("probability", [0.25, 1.0])
def test_shares_of_what_is_changed(probability: float) -> None:
    for name, is_changed in (
        ("gain", lambda change: change.gains != 1),
        ("flip", lambda change: change.gains == -1),
        ("equalizer", lambda change: change.curves.all(axis=1)),
        ("swap", lambda change: np.array([draw.swap for draw in change.channels])),
        ("random_channel", lambda change: np.array([d.take is not None for d in change.channels])),
    ):
        drawn = changes(replace(OFF, **{f"{name}_probability": probability}))
        assert_share(np.stack([is_changed(change) for change in drawn]), probability)


def test_equalizer_gains_are_uniform_at_every_point() -> None:
    config = replace(OFF, equalizer_probability=1.0, equalizer_db=3.0)
    curves = np.stack([change.curves for change in changes(config)]).astype(float)
    assert curves.shape == (500, 4, 8)
    assert_uniform(curves, -3.0, 3.0)
    for point in range(8):
        assert_uniform(curves[:, :, point], -3.0, 3.0)
    # A stem that is left alone has no gains at all.
    half = [c.curves for c in changes(replace(config, equalizer_probability=0.5))]
    assert {int(count) for count in np.count_nonzero(half, axis=2).flat} == {0, 8}


def test_random_channel_is_uniform() -> None:
    drawn = changes(replace(OFF, random_channel_probability=1.0))
    takes = np.array([[draw.take for draw in change.channels] for change in drawn])
    assert_uniform(takes, 0.0, 1.0)


@pytest.mark.parametrize(
    ("setting", "part"),
    [
        ("gain_probability", "gain"),
        ("flip_probability", "sign"),
        ("mute_probability", "muted"),
        ("equalizer_probability", "curves"),
        ("random_channel_probability", "take"),
        ("swap_probability", "swap"),
    ],
)
def test_a_setting_changes_what_it_is_about_and_nothing_else(setting: str, part: str) -> None:
    parts: dict[str, Callable[[Changes], Any]] = {
        "gain": lambda c: np.where(c.gains == 0, 0, np.abs(c.gains)),
        "sign": lambda c: c.gains < 0,
        "muted": lambda c: c.gains == 0,
        "curves": lambda c: c.curves,
        "take": lambda c: [draw.take for draw in c.channels],
        "swap": lambda c: [draw.swap for draw in c.channels],
    }
    base = replace(MixingConfig(**dict.fromkeys(PROBABILITIES, 0.5)), **{setting: 0.0})
    without, with_it = changes(base, examples=20), changes(replace(base, **{setting: 1.0}))
    for name, get in parts.items():
        pairs = [(get(a), get(b)) for a, b in zip(without, with_it, strict=False)]
        if setting == "mute_probability":
            heard = [b.gains != 0 for b in with_it]  # what is muted has neither gain nor sign
            pairs = [
                (np.where(h, a, 0), np.where(h, b, 0)) if name in ("gain", "sign") else (a, b)
                for (a, b), h in zip(pairs, heard, strict=False)
            ]
        assert np.array_equal([a for a, _ in pairs], [b for _, b in pairs]) == (name != part)


def givers(probability: float, *, step: int = 0, batch_size: int = 200) -> npt.NDArray[np.int64]:
    """Give where the stems of a step's examples come from, shape (example, source)."""
    config = replace(OFF, exchange_probability=probability)
    numbers = {"num_sources": 4, "seed": 3, "step": step, "batch_size": batch_size}
    return np.array([draw_givers(config, example=i, **numbers) for i in range(batch_size)])


def test_who_gives_stems_to_whom() -> None:
    own = np.arange(200)
    np.testing.assert_array_equal(givers(0.0), np.stack(4 * [own], axis=1))
    for probability in (0.3, 1.0):
        drawn = givers(probability)
        np.testing.assert_array_equal(np.sort(drawn, axis=0), np.stack(4 * [own], axis=1))
        # One of those that take part gets all its four stems back in 1 in 60^4 cases or less.
        assert_share((drawn != own[:, None]).any(axis=1), probability)
        for i, j in itertools.combinations(range(4), 2):
            shuffled = drawn[:, i] != own
            assert (drawn[shuffled, i] == drawn[shuffled, j]).mean() < 0.1
    np.testing.assert_array_equal(givers(0.3), givers(0.3))
    assert not np.array_equal(givers(1.0), givers(1.0, step=1))
    assert givers(1.0, batch_size=1).tolist() == [[0, 0, 0, 0]]


def test_muting_leaves_one_that_is_not_other() -> None:
    draws = np.array([0.3, 0.2, 0.4, 0.1])
    for probability, expected in (
        (0.0, []),
        (0.1, []),
        (0.15, ["other"]),
        (0.25, ["drums", "other"]),
        (0.35, ["vocals", "drums", "other"]),
        (0.45, ["vocals", "drums", "other"]),  # bass has the highest draw of the three
        (1.0, ["vocals", "drums", "other"]),
    ):
        muted = choose_muted(draws, probability=probability, sources=STEMS)
        assert [stem for stem, m in zip(STEMS, muted, strict=True) if m] == expected
    for sources, draw, expected in (
        (("other",), (0.5,), [False]),
        (("other", "vocals"), (0.9, 0.5), [True, False]),
        (("bass", "drums"), (0.1, 0.2), [True, False]),
    ):
        muted = choose_muted(np.array(draw), probability=1.0, sources=sources)
        assert muted.tolist() == expected


@pytest.mark.parametrize("probability", [0.3, 0.9])
def test_shares_of_muted_stems(probability: float) -> None:
    gains = np.stack([c.gains for c in changes(replace(OFF, mute_probability=probability))])
    # All three others are muted with p^3; then each is the one that stays with 1/3.
    for number, stem in enumerate(STEMS):
        share = probability if stem == "other" else probability - probability**3 / 3
        assert_share(gains[:, number] == 0, share)
    assert (gains[:, :3] != 0).any(axis=1).all()


def test_channels_are_chosen() -> None:
    audio = np.arange(12, dtype=np.float32).reshape(3, 4)

    def chosen(count: int, channels: int, take: float | None, *, swap: bool = False) -> Any:
        draw = ChannelDraw(take=take, swap=swap)
        return choose_channels(audio[:count], draw, channels=channels).tolist()

    a, b, c = audio.tolist()
    assert [chosen(1, 1, take) for take in (None, 0.0, 0.99)] == [[a], [a], [a]]
    assert [chosen(2, 1, take) for take in (0.0, 0.49, 0.5, 0.99)] == [[a], [a], [b], [b]]
    assert [chosen(3, 1, take) for take in (0.3, 0.4, 0.7)] == [[a], [b], [c]]
    assert chosen(2, 1, None) == [[2.0, 3.0, 4.0, 5.0]]
    assert chosen(3, 1, None, swap=True) == [b]
    assert [chosen(count, 2, 0.9) for count in (1, 2, 3)] == [[a, a], [a, b], [a, b]]
    assert [chosen(count, 2, None, swap=True) for count in (1, 2, 3)] == [[a, a], [b, a], [b, a]]


@pytest.mark.parametrize(
    ("stored_rate", "speed", "expected"),
    [
        (44100, 1.0, 44100),
        (11025, 1.0, 11025),
        (44100, 1.1, 48500),
        (44100, 0.9, 39700),
        (32000, 1.25, 40000),
        (22050, 1.25, 27600),
        (8000, 0.1, 800),
    ],
)
def test_played_rate(stored_rate: int, speed: float, expected: int) -> None:
    assert play_rate(stored_rate, speed) == expected


def test_levels_of_dynamic_mixing() -> None:
    levels = np.stack([draw_levels(3, seed=1, step=2, example=i) for i in range(4000)])
    assert levels.shape == (4000, 3)
    first, others = levels[:, 0], levels[:, 1:] - levels[:, :1]
    # Within four standard errors of the mean, and of the deviation.
    for values, mean, deviation in ((first, -27.43, 2.57), (others, -2.51, 2.66)):
        error = deviation / math.sqrt(values.size)
        assert values.mean() == pytest.approx(mean, abs=4 * error)
        assert values.std() == pytest.approx(deviation, abs=4 * error / math.sqrt(2))
    assert abs(np.corrcoef(others.T)[0, 1]) < 4 / math.sqrt(4000)
    again = draw_levels(3, seed=1, step=2, example=7)
    np.testing.assert_array_equal(again, levels[7])
    np.testing.assert_array_equal(draw_levels(2, seed=1, step=2, example=7), levels[7, :2])
    for other in ({"seed": 2}, {"step": 3}, {"example": 8}):
        numbers = {"seed": 1, "step": 2, "example": 7, **other}
        assert not np.allclose(draw_levels(3, **numbers), levels[7])


@pytest.mark.slow
def test_dynamic_levels_take_the_place_of_gains_alone() -> None:
    config = MixingConfig(mute_probability=0.3, equalizer_probability=0.5)
    plain, dynamic = changes(config), changes(replace(config, dynamic_levels=True))
    for example, (one, other) in enumerate(zip(plain, dynamic, strict=True)):
        assert one.channels == other.channels
        np.testing.assert_array_equal(one.curves, other.curves)
        np.testing.assert_array_equal(np.sign(one.gains), np.sign(other.gains))
        levels = draw_levels(len(STEMS), seed=3, step=4, example=example)
        heard = other.gains != 0
        np.testing.assert_allclose(
            20 * np.log10(np.abs(other.gains[heard])), levels[heard], atol=1e-4
        )
