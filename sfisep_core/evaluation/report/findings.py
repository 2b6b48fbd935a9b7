"""What a study found, in a sentence for each method compared: the beginning of the report."""

import math
from dataclasses import dataclass

from sfisep_core.evaluation.metrics import DEFINITIONS
from sfisep_core.evaluation.study import ALL_SOURCES, ScoreKey, Study

_METRICS = ("si_sdr", "sdr")


@dataclass(frozen=True)
class Finding:
    """The first system against another one, over all sampling frequencies.

    Attributes:
        other: The other system.
        label: Name of the score, of which the mean over the sources of each track is taken.
        lowest: Smallest mean difference over the tracks in dB; positive where the first is better.
        lowest_rate: Its sampling frequency in Hz; the first of several.
        highest: Largest mean difference.
        highest_rate: Its sampling frequency in Hz.
        better: Sampling frequencies at which the 95 % interval of the mean lies above 0 dB.
        worse: Those at which it lies below.
        rates: Sampling frequencies that are compared.
        tracks: Largest number of tracks that both have; of a single track there is no interval.
    """

    other: str
    label: str
    lowest: float
    lowest_rate: int
    highest: float
    highest_rate: int
    better: int
    worse: int
    rates: int
    tracks: int


def find(study: Study) -> list[Finding]:
    """Compare the first system of a study with each of the others.

    Returns:
        A finding for each of the others with a finite difference at one rate or more, by SI-SDR, or
        by SDR where there is no SI-SDR.
    """
    findings = (_finding(study, other) for other in study.systems[1:])
    return [finding for finding in findings if finding is not None]


def _finding(study: Study, other: str) -> Finding | None:
    for metric in _METRICS:
        keys = [
            ScoreKey(rate, study.systems[0], ALL_SOURCES, metric) for rate in study.sample_rates
        ]
        by_rate = {key.sample_rate: study.differences.get((key, other)) for key in keys}
        found = {
            rate: difference
            for rate, difference in by_rate.items()
            if difference is not None and math.isfinite(difference.mean)
        }
        if found:
            lowest_rate = min(found, key=lambda rate: found[rate].mean)
            highest_rate = max(found, key=lambda rate: found[rate].mean)
            return Finding(
                other=other,
                label=DEFINITIONS[metric].label,
                lowest=found[lowest_rate].mean,
                lowest_rate=lowest_rate,
                highest=found[highest_rate].mean,
                highest_rate=highest_rate,
                better=sum(difference.low > 0 for difference in found.values()),
                worse=sum(difference.high < 0 for difference in found.values()),
                rates=len(found),
                tracks=max(difference.tracks for difference in found.values()),
            )
    return None
