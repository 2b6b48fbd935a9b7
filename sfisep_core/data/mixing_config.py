"""Settings of how training examples are drawn and augmented."""

from dataclasses import dataclass
from typing import Annotated, Literal

from sfisep_core.config_values import CheckedConfig, Range, SampleRate, Share
from sfisep_core.errors import ConfigError


@dataclass(frozen=True)
class MixingConfig(CheckedConfig):
    """How training examples are drawn; a probability of 0 switches an augmentation off.

    Attributes:
        excerpt_seconds: Seconds of an example.
        channels: Channels of an example. 1: one channel of a stem or the mean of all. 2: mono is
            copied to both channels, and of more than two channels the first two are used.
        remix_probability: Probability, for each example, that all its stems come from tracks and
            places of their own; otherwise they come from one place.
        replace_probability: Probability, for each stem of an example that is not remixed, that it
            comes from another track and place.
        exchange_probability: Probability, for each example, that it exchanges its stems with the
            other examples of the step that do so; each stem of the step is heard once, in another
            mixture.
        active_probability: Probability, for each stem that comes from a place of its own, that its
            excerpt contains a second in which the stem is active; otherwise every place is equally
            likely.
        random_channel_probability: Probability, for each stem where `channels` is 1, that one
            channel is taken at random instead of the mean of all.
        swap_probability: Probability, for each stem where `channels` is 2, that left and right are
            swapped.
        dynamic_levels: Whether the levels of all stems are drawn as in the dynamic mixing of
            speech, in place of `gain_probability` and `gain_db`.
        gain_probability: Probability, for each stem, that its level is changed.
        gain_db: Largest change of a level in dB, up or down; changes are uniform.
        flip_probability: Probability, for each stem, that its polarity is inverted.
        mute_probability: Probability, for each stem, that it is silent, in the mixture too; at
            least one stem that is not "other" is kept.
        shift_probability: Probability, for each stem that is neither remixed nor replaced, that it
            is moved against the others in time.
        shift_seconds: Largest shift in seconds, earlier or later.
        speed_probability: Probability, for each step, that tempo and pitch of all its examples are
            changed together.
        speeds: Factors of tempo and pitch, of which one is drawn for a step; one that is listed
            twice is twice as likely.
        equalizer_probability: Probability, for each stem, that it gets smooth random gains over
            frequency.
        equalizer_db: Largest of these gains in dB, up or down; they are uniform at eight
            frequencies.
        sample_rates: Hz, sampling frequencies of training, of which one is drawn for each step.
        lowpass_probability: Probability, for each step, that its signals are limited to the band of
            a lower rate of `sample_rates`.
    """

    section = "training setting mixing."

    excerpt_seconds: Annotated[float, Range(0, 3600, above_low=True)] = 3.0
    channels: Literal[1, 2] = 1
    remix_probability: Share = 0.6
    replace_probability: Share = 0.0
    exchange_probability: Share = 0.0
    active_probability: Share = 0.8
    random_channel_probability: Share = 1.0
    swap_probability: Share = 0.5
    dynamic_levels: bool = False
    gain_probability: Share = 1.0
    gain_db: Annotated[float, Range(0, 60)] = 4.0
    flip_probability: Share = 0.5
    mute_probability: Share = 0.0
    shift_probability: Share = 0.0
    shift_seconds: Annotated[float, Range(0, 3600)] = 0.5
    speed_probability: Share = 1.0
    speeds: tuple[Annotated[float, Range(0.1, 10)], ...] = (0.8, 0.9, 1.0, 1.0, 1.1, 1.25)
    equalizer_probability: Share = 0.0
    equalizer_db: Annotated[float, Range(0, 20)] = 6.0
    sample_rates: tuple[SampleRate, ...] = (8000, 11025, 16000, 22050, 24000, 32000)
    lowpass_probability: Share = 0.1

    def __post_init__(self) -> None:
        """Check values, and that no set of choices is empty."""
        super().__post_init__()
        for name in ("speeds", "sample_rates"):
            if not getattr(self, name):
                msg = f"training setting mixing.{name}: expected one value or more, got none"
                raise ConfigError(msg)

    @property
    def stored_seconds(self) -> float:
        """Maximum length of an excerpt in a recording, which depends on the playback speed."""
        return self.excerpt_seconds * max(self._played)

    @property
    def _played(self) -> tuple[float, ...]:
        """Return all speeds that a step may have."""
        unchanged = (1.0,) if self.speed_probability < 1 else ()
        return unchanged + (self.speeds if self.speed_probability > 0 else ())

    def resampled_pairs(self, stored_rate: int) -> set[tuple[int, int]]:
        """Return all pairs of rates, in Hz, between which a step may have to resample."""
        pairs = {
            (play_rate(stored_rate, speed), rate)
            for speed in self._played
            for rate in self.sample_rates
        }
        if self.lowpass_probability > 0:
            pairs |= {(a, b) for a in self.sample_rates for b in self.sample_rates if b != a}
        return pairs


def play_rate(stored_rate: int, speed: float) -> int:
    """Compute the rate that plays a signal `speed` times as fast.

    Args:
        stored_rate: In Hz.
        speed: Factor of tempo and pitch.

    Returns:
        The rate in Hz. It is rounded to 100 Hz, which keeps the resampler's filters small, unless
        the speed is 1.
    """
    return stored_rate if speed == 1.0 else round(stored_rate * speed / 100) * 100
