"""Leave out parts of tracks."""

import re
from collections.abc import Sequence
from dataclasses import dataclass

from sfisep_core.errors import ConfigError

_EXCLUSION = re.compile(r"(?P<track>.+):(?P<start>\d+(?:\.\d+)?)-(?P<end>\d+(?:\.\d+)?)")


@dataclass(frozen=True)
class Exclusion:
    """A time range, in seconds, that is to be left out of a track."""

    track: str
    start: float
    end: float


def parse_exclusions(texts: Sequence[str]) -> list[Exclusion]:
    """Read exclusions written as `TRACK:START-END`, in seconds.

    Raises:
        ConfigError: A text has another form, or a range is empty.
    """
    exclusions = []
    for text in texts:
        match = _EXCLUSION.fullmatch(text)
        if match is None or float(match["start"]) >= float(match["end"]):
            msg = f"exclusion {text!r}: expected TRACK:START-END in seconds, e.g. song:28-92"
            raise ConfigError(msg)
        exclusions.append(Exclusion(match["track"], float(match["start"]), float(match["end"])))
    return exclusions


def kept_spans(
    frames: int, sample_rate: int, exclusions: Sequence[Exclusion]
) -> list[tuple[int, int]]:
    """Compute the parts of a track that remain without the excluded ranges.

    Args:
        frames: Length of the track in samples.
        sample_rate: Hz.
        exclusions: Ranges, all of this track, in any order; they may overlap.

    Returns:
        First sample, and sample after the last, of every remaining part.
    """
    spans, begin = [], 0
    for exclusion in sorted(exclusions, key=lambda e: e.start):
        start = min(round(exclusion.start * sample_rate), frames)
        if start > begin:
            spans.append((begin, start))
        begin = max(begin, round(exclusion.end * sample_rate))
    if begin < frames:
        spans.append((begin, frames))
    return spans
