"""Settings of how training examples are drawn and augmented."""

from dataclasses import dataclass
from typing import Annotated, Literal

from sfisep_core.config_values import CheckedConfig, Range, SampleRate, Share
from sfisep_core.errors import ConfigError


@dataclass(frozen=True)
class MixingConfig(CheckedConfig):
    """How training examples are drawn; a probability of 0 switches an augmentation off."""

    section = "training setting mixing."

    excerpt_seconds: Annotated[float, Range(0, 3600, above_low=True)] = 3.0
    channels: Literal[1, 2] = 1
    remix_probability: Share = 0.6  # stems of an example come from different places
    replace_probability: Share = 0.0  # each stem without remixing: taken from another place
    exchange_probability: Share = 0.0  # each example: exchanges stems with others of the step
    active_probability: Share = 0.8  # the excerpt of a stem contains a second with activity
    random_channel_probability: Share = 1.0  # one channel of a stem instead of their mean
    swap_probability: Share = 0.5  # a stem's two channels are swapped
    dynamic_levels: bool = False  # one level per stem, see `draw_levels`; replaces gain_*
    gain_probability: Share = 1.0  # each stem
    gain_db: Annotated[float, Range(0, 60)] = 4.0  # uniform in +- this
    flip_probability: Share = 0.5  # polarity of each stem
    mute_probability: Share = 0.0  # each stem; at least one that is not "other" is kept
    shift_probability: Share = 0.0  # each stem without remixing
    shift_seconds: Annotated[float, Range(0, 3600)] = 0.5  # earlier or later, at most this
    speed_probability: Share = 1.0  # tempo and pitch of a step
    # One value of each is drawn per step.
    speeds: tuple[Annotated[float, Range(0.1, 10)], ...] = (0.8, 0.9, 1.0, 1.0, 1.1, 1.25)
    equalizer_probability: Share = 0.0  # each stem
    equalizer_db: Annotated[float, Range(0, 20)] = 6.0  # uniform in +- this, at eight frequencies
    sample_rates: tuple[SampleRate, ...] = (8000, 11025, 16000, 22050, 24000, 32000)
    lowpass_probability: Share = 0.1  # band-limit a step's signals to a lower drawn rate

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
