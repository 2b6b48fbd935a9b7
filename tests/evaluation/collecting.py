"""The values that tables are made of, for tests."""

from collections.abc import Iterable

from sfisep_core.evaluation.study import Scores
from sfisep_core.evaluation.tables import compare_systems
from sfisep_core.evaluation.track_scores import TrackScores


def collect(tracks: Iterable[TrackScores]) -> Scores:
    tracks = list(tracks)
    return compare_systems(tracks, [tracks[0].system]).scores
