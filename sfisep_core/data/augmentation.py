"""Random draws of the augmentation of training examples.

Every draw is a pure function of the seed, the step and the example's index within the step.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from sfisep_core.data.equalizer import EQUALIZER_FREQUENCIES
from sfisep_core.data.mixing_config import MixingConfig

# Makes these random numbers differ from those of `draw_step` and of excerpt places.
_PURPOSE = 2
_EXCHANGE = 3
_LEVELS = 5

# Levels of speech in mixtures of WSJ0, as in SepFormer's training: mean and standard deviation in
# dB of the first source, and of the others relative to it; range of the first.
_FIRST_LEVEL, _OTHER_LEVELS, _LEVEL_RANGE = (-27.43, 2.57), (-2.51, 2.66), (-45.0, 0.0)


@dataclass(frozen=True)
class StepDraw:
    """Random values that all examples of a step share.

    Attributes:
        sample_rate: The rate to train at, in Hz.
        speed: Factor of tempo and pitch.
        band_limit: A lower rate in Hz to whose band the signals are limited; 0 = none.
    """

    sample_rate: int
    speed: float
    band_limit: int


@dataclass(frozen=True)
class ChannelDraw:
    """Selection of the channels of one stem.

    Attributes:
        take: For mono output, the channel as a number from 0 (first) to 1 (exclusive, last). None:
            the mean of all.
        swap: For stereo output, whether the channels are swapped.
    """

    take: float | None
    swap: bool


@dataclass(frozen=True)
class Changes:
    """Random changes of an example: `channels` of every source, the rest as in `Example`."""

    channels: tuple[ChannelDraw, ...]
    gains: npt.NDArray[np.float32]
    curves: npt.NDArray[np.float32]


def draw_step(config: MixingConfig, *, seed: int, step: int) -> StepDraw:
    """Draw the values that all examples of a step share.

    Args:
        config: How to draw.
        seed: Seed of the run, 0 or more.
        step: Index of the step, 0 or more.

    Returns:
        The draw, which depends only on these arguments.
    """
    rng = np.random.default_rng([seed, step])
    sample_rate = int(rng.choice(config.sample_rates))
    speed = float(rng.choice(config.speeds))
    changes_speed = rng.random() < config.speed_probability
    limits = rng.random() < config.lowpass_probability
    lower = [rate for rate in config.sample_rates if rate < sample_rate]
    return StepDraw(
        sample_rate=sample_rate,
        speed=speed if changes_speed else 1.0,
        band_limit=int(rng.choice(lower)) if lower and limits else 0,
    )


def draw_givers(
    config: MixingConfig, *, num_sources: int, seed: int, step: int, example: int, batch_size: int
) -> list[int]:
    """Draw from which examples of the step the stems of one are taken.

    Examples that take part exchange their stems, independently for each source, so that each stem
    of a step is used once, in another mixture.

    Args:
        config: How to draw.
        num_sources: Number of stems of an example.
        seed: Seed of the run, 0 or more.
        step: Index of the step, 0 or more.
        example: Index within the step, below `batch_size`.
        batch_size: Number of examples of the step, over all processes and micro-batches.

    Returns:
        Indices of examples, one per source; the example's own index if it does not take part.
    """
    rng = np.random.default_rng([seed, step, _EXCHANGE])
    shuffled = np.flatnonzero(rng.random(batch_size) < config.exchange_probability)
    if example not in shuffled:
        return num_sources * [example]
    own = np.searchsorted(shuffled, example)
    return [int(rng.permutation(shuffled)[own]) for _ in range(num_sources)]


def draw_changes(
    sources: Sequence[str], config: MixingConfig, *, seed: int, step: int, example: int
) -> Changes:
    """Draw the changes of the stems of one example; arguments as for `draw_example`."""
    rng = np.random.default_rng([seed, step, _PURPOSE, example])
    count = len(sources)
    # All values are always drawn, so that a setting has no influence on other draws.
    take, takes, swaps, flips, mutes, gains, bends = rng.random((7, count))
    decibels = rng.uniform(-config.gain_db, config.gain_db, count)
    curves = rng.uniform(
        -config.equalizer_db, config.equalizer_db, (count, len(EQUALIZER_FREQUENCIES))
    )
    decibels[gains >= config.gain_probability] = 0.0
    if config.dynamic_levels:
        decibels = draw_levels(count, seed=seed, step=step, example=example)
    curves[bends >= config.equalizer_probability] = 0.0
    factors = 10 ** (decibels / 20) * np.where(flips < config.flip_probability, -1.0, 1.0)
    factors[choose_muted(mutes, probability=config.mute_probability, sources=sources)] = 0.0
    channels = tuple(
        ChannelDraw(
            take=float(take[i]) if takes[i] < config.random_channel_probability else None,
            swap=bool(swaps[i] < config.swap_probability),
        )
        for i in range(count)
    )
    return Changes(channels, factors.astype(np.float32), curves.astype(np.float32))


def draw_levels(num_sources: int, *, seed: int, step: int, example: int) -> npt.NDArray[np.float64]:
    """Draw levels of the stems of one example, as for dynamic mixing of speech.

    Args:
        num_sources: Number of stems of the example.
        seed: Seed of the run, 0 or more.
        step: Index of the step, 0 or more.
        example: Index within the step.

    Returns:
        In dB, shape (source,): N(-27.43, 2.57) within -45 to 0 for the first stem, and that plus
        N(-2.51, 2.66) for each of the others. They are relative to a mean absolute value of 1.

    Source: Zeghidour and Grangier, "Wavesplit", IEEE/ACM TASLP 2021, with the numbers of the
    published training of Subakan et al., "Attention is all you need in speech separation", 2021.
    """
    rng = np.random.default_rng([seed, step, _LEVELS, example])
    first = np.clip(rng.normal(*_FIRST_LEVEL), *_LEVEL_RANGE)
    return np.concatenate([[first], first + rng.normal(*_OTHER_LEVELS, num_sources - 1)])


def choose_channels(
    audio: npt.NDArray[np.float32], draw: ChannelDraw, *, channels: int
) -> npt.NDArray[np.float32]:
    """Convert a recording with any number of channels to mono or stereo.

    Args:
        audio: Shape (channel, time).
        draw: The draw for it.
        channels: 1 or 2. For 2, mono is copied to both channels, and of more than two channels the
            first two (front left and right) are used.

    Returns:
        Shape (channels, time).
    """
    if channels == 2:
        both = audio[[0, min(1, audio.shape[0] - 1)]]
        return both[::-1] if draw.swap else both
    if draw.take is None:
        mean: npt.NDArray[np.float32] = audio.mean(axis=0, keepdims=True)
        return mean
    number = int(draw.take * audio.shape[0])
    return audio[number : number + 1]


def choose_muted(
    draws: npt.NDArray[np.float64], *, probability: float, sources: Sequence[str]
) -> npt.NDArray[np.bool_]:
    """Choose muted sources independently, but keep at least one that is not "other".

    Args:
        draws: One number from 0 to 1 (exclusive) for each source, shape (source,).
        probability: Probability of muting a source, 0 to 1.
        sources: Their names. If there are sources other than "other", the one with the highest draw
            is kept.

    Returns:
        Shape (source,), true where muted.
    """
    muted = draws < probability
    named = [i for i, source in enumerate(sources) if source != "other"] or [0]
    if muted[named].all():
        muted[max(named, key=lambda i: draws[i])] = False
    return muted
