"""Results of a comparison of methods over sampling frequencies, for tables and the report."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from sfisep_core.evaluation.summary import Difference, Summary

Samples = npt.NDArray[np.float32]

ALL_SOURCES = "mean"
"""In place of a source's name: the mean over the sources of each track."""


class ScoreKey(NamedTuple):
    """Key of a score.

    Attributes:
        sample_rate: Rate of scoring in Hz.
        system: The system: a method of the model, or a baseline.
        source: Name of the source, or `ALL_SOURCES`.
        metric: Key in `metrics.DEFINITIONS`.
    """

    sample_rate: int
    system: str
    source: str
    metric: str


Scores = Mapping[ScoreKey, Mapping[str, float]]
"""Values by track; tracks that have no such score are left out."""

Summaries = Mapping[ScoreKey, Summary]
"""Summaries of the scores over tracks."""

Differences = Mapping[tuple[ScoreKey, str], Difference]
"""By score of a system, and name of the system compared with it."""


@dataclass(frozen=True)
class Example:
    """An excerpt to listen to.

    Attributes:
        track: Name of the track.
        start: Start in the track, in seconds.
        sample_rate: Hz.
        mixture: Shape (channel, time).
        references: By source, each of the mixture's shape.
        estimates: By system and source, likewise.
    """

    track: str
    start: float
    sample_rate: int
    mixture: Samples
    references: Mapping[str, Samples]
    estimates: Mapping[str, Mapping[str, Samples]]


@dataclass(frozen=True)
class Study:
    """A comparison of methods over sampling frequencies.

    Attributes:
        model: Name of the model.
        model_sha256: Digest of its file.
        native_rate: Rate in Hz at which it was trained.
        data: Description of the scored data.
        systems: Names in the order of the tables; the first is compared with each of the others.
        sample_rates: Hz, ascending.
        sources: Names, in order.
        tracks: Names.
        scores: All scores.
        summaries: Summaries of all scores.
        differences: Differences between the first system and each of the others.
        examples: Excerpts to listen to.
    """

    model: str
    model_sha256: str
    native_rate: int
    data: str
    systems: Sequence[str]
    sample_rates: Sequence[int]
    sources: Sequence[str]
    tracks: Sequence[str]
    scores: Scores
    summaries: Summaries
    differences: Differences
    examples: Sequence[Example]
