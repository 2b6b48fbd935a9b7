"""From the scores of tracks to tables: over frames, over sources, over tracks."""

import csv
import json
import math
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from sfisep_core.evaluation.metrics import DEFINITIONS
from sfisep_core.evaluation.scoring import Evaluation
from sfisep_core.evaluation.study import ALL_SOURCES, Differences, ScoreKey, Scores, Summaries
from sfisep_core.evaluation.summary import compare, over_frames, summarise
from sfisep_core.evaluation.track_scores import TrackScores
from sfisep_core.foundation.atomic import written_whole

SUMMARY_VERSION = 1

_FILTERED = ("isr", "sir", "sar")
_Values = dict[tuple[str, str], float]  # values of one track, by source and metric
_Row = tuple[TrackScores, _Values]


@dataclass(frozen=True)
class Comparison:
    """Content of the tables and the report, computed once.

    Attributes:
        scores: Values of the tracks, by score.
        summaries: Summary over tracks, by score.
        differences: Differences between the first system and each of the others.
    """

    scores: Scores
    summaries: Summaries
    differences: Differences


def compare_systems(tracks: Sequence[TrackScores], systems: Sequence[str]) -> Comparison:
    """Summarise scores over tracks, and compare the first system with each of the others.

    Args:
        tracks: Scores of all systems.
        systems: Their names.
    """
    rows = [(of_track, track_values(of_track)) for of_track in tracks]
    scores = _by_track(rows)
    return Comparison(scores, summarise_scores(scores), _differences(rows, systems))


def track_values(scores: TrackScores) -> _Values:
    """Reduce the scores of a track to numbers: framewise scores to the median over frames.

    Ill-conditioned ISR, SIR and SAR are left out, unless museval's own values were requested, which
    are not changed. The mean over sources is computed over those that are not silent in the track,
    and exists only if all of these have the score.

    Returns:
        Values by source and metric, without scores that do not exist.
    """
    metrics: dict[str, dict[str, float]] = defaultdict(dict)
    left_out = scores.ill_conditioned and scores.settings["metrics"] != "museval"
    for source, of_source in scores.sources.items():
        if source not in scores.silent_sources:
            for metric, frames in of_source.frames.items():
                if not (metric in _FILTERED and left_out):
                    metrics[metric][source] = over_frames(frames)
        for metric, value in of_source.whole.items():
            metrics[metric][source] = value
    sounding = set(scores.settings["sources"]) - set(scores.silent_sources)
    for metric, values in metrics.items():
        if metric != "leakage_db" and values.keys() == sounding:
            with np.errstate(invalid="ignore"):  # the mean of infinities of both signs is NaN
                values[ALL_SOURCES] = float(np.mean(list(values.values())))
    if scores.equivariance_db is not None:
        metrics["equivariance_db"][ALL_SOURCES] = scores.equivariance_db
    return {
        (source, metric): value
        for metric, values in metrics.items()
        for source, value in values.items()
        if not math.isnan(value)
    }


def _by_track(tracks: Iterable[_Row]) -> Scores:
    by_key: dict[ScoreKey, dict[str, float]] = defaultdict(dict)
    for scores, values in tracks:
        for (source, metric), value in values.items():
            key = ScoreKey(scores.sample_rate, scores.system, source, metric)
            by_key[key][scores.track] = value
    return dict(by_key)


def summarise_scores(scores: Scores) -> Summaries:
    """Summarise every score over its tracks."""
    return {key: summarise(values.values()) for key, values in scores.items()}


def _differences(rows: Iterable[_Row], systems: Sequence[str]) -> Differences:
    """Compare the first system with each of the others, track by track.

    Framewise scores are compared over the frames that both systems have, so that frames in which
    only one system is silent have no influence.
    """
    by_system: dict[str, dict[tuple[int, str], _Row]] = defaultdict(dict)
    for row in rows:
        by_system[row[0].system][row[0].sample_rate, row[0].track] = row
    first, differences = by_system[systems[0]], {}
    for other in systems[1:]:
        second = by_system[other]
        both = [(first[place], second[place]) for place in first if place in second]
        of_first = _by_track(_over_common_frames(a, b) for a, b in both)
        of_other = _by_track(_over_common_frames(b, a) for a, b in both)
        for key, of_tracks in of_first.items():
            against = of_other.get(key._replace(system=other))
            if against is not None:
                better_up = DEFINITIONS[key.metric].higher_is_better
                differences[key, other] = compare(of_tracks, against, higher_is_better=better_up)
    return differences


def _over_common_frames(row: _Row, other: _Row) -> _Row:
    """Remove the frames in which the other system has no score."""
    scores, theirs = row[0], other[0]
    lost = any(
        math.isfinite(ours) and not math.isfinite(them)
        for source in scores.sources.keys() & theirs.sources.keys()
        for metric, frames in scores.sources[source].frames.items()
        for ours, them in zip(frames, theirs.sources[source].frames[metric], strict=True)
    )
    if not lost:
        return row
    return scores, track_values(_with_common_frames(scores, theirs))


def _with_common_frames(scores: TrackScores, other: TrackScores) -> TrackScores:
    """Remove the frames in which another system has no score."""
    sources = {}
    for source, of_source in scores.sources.items():
        frames = of_source.frames
        if source in other.sources:
            theirs = other.sources[source].frames
            frames = {
                metric: [
                    ours if math.isfinite(them) else math.nan
                    for ours, them in zip(values, theirs[metric], strict=True)
                ]
                for metric, values in frames.items()
            }
        sources[source] = replace(of_source, frames=frames)
    return replace(scores, sources=sources)


def summary_rows(summaries: Summaries) -> list[dict[str, Any]]:
    """Build a row per score: its key, and its `Summary` over tracks."""
    return [key._asdict() | asdict(summary) for key, summary in summaries.items()]


def difference_rows(differences: Differences) -> list[dict[str, Any]]:
    """Build a row per comparison of the first system with another."""
    return [
        key._asdict() | {"minus": other} | asdict(difference)
        for (key, other), difference in differences.items()
    ]


def notes(tracks: Iterable[TrackScores]) -> list[dict[str, Any]]:
    """Count, for each rate and system, the tracks or frames that were not scored."""
    counts: dict[tuple[int, str], dict[str, int]] = {}
    for scores in tracks:
        row = counts.setdefault(
            (scores.sample_rate, scores.system),
            dict.fromkeys(
                (
                    "tracks",
                    "silent_frames",
                    "silent_sources",
                    "silent_estimates",
                    "ill_conditioned",
                ),
                0,
            ),
        )
        row["tracks"] += 1
        row["silent_frames"] += scores.num_silent_frames
        row["silent_sources"] += len(scores.silent_sources)
        row["silent_estimates"] += len(scores.silent_estimates)
        row["ill_conditioned"] += scores.ill_conditioned
    return [
        {"sample_rate": rate, "system": system, **row} for (rate, system), row in counts.items()
    ]


def make_tables(
    evaluation: Evaluation,
    comparison: Comparison,
    systems: Sequence[str],
    about: Mapping[str, Any],
) -> dict[str, Any]:
    """Build all tables; values that do not exist are NaN.

    Args:
        evaluation: The scores.
        comparison: Comparison of these scores.
        systems: Names; the first is compared with the others.
        about: Description of the run.

    Returns:
        The content of summary.json.
    """
    used = {key.metric for key in comparison.scores}
    return {
        "version": SUMMARY_VERSION,
        **about,
        "systems": list(systems),
        "definitions": {key: asdict(DEFINITIONS[key]) for key in DEFINITIONS if key in used},
        "scores": summary_rows(comparison.summaries),
        "differences": difference_rows(comparison.differences),
        "notes": notes(evaluation.scores),
        "failures": [asdict(failure) for failure in evaluation.failures],
    }


def write_tables(out: Path, tables: Mapping[str, Any], scores: Scores) -> None:
    """Write summary.json, summary.csv, differences.csv and tracks.csv into a folder.

    Args:
        out: The folder.
        tables: Result of `make_tables`.
        scores: All scores, by track.

    Raises:
        OSError: They cannot be written.
    """
    with written_whole(out / "summary.json") as temporary:
        temporary.write_text(to_json(tables) + "\n", encoding="utf-8")
    rows = [
        key._asdict() | {"track": track, "value": value}
        for key, values in scores.items()
        for track, value in values.items()
    ]
    for name, table in (
        ("summary.csv", tables["scores"]),
        ("differences.csv", tables["differences"]),
        ("tracks.csv", rows),
    ):
        with (
            written_whole(out / name) as temporary,
            temporary.open("w", encoding="utf-8", newline="") as file,
        ):
            writer = csv.DictWriter(file, table[0] if table else ["sample_rate"])
            writer.writeheader()
            writer.writerows({name: _cell(value) for name, value in row.items()} for row in table)


def _cell(value: object) -> object:
    """Keep spreadsheets from taking a name for a formula, as they do with these beginnings."""
    if isinstance(value, str) and value.startswith(("=", "+", "-", "@", "\t", "\r")):
        return f"'{value}"
    return value


def to_json(content: Mapping[str, Any]) -> str:
    """Return strict JSON: numbers that are NaN or infinite become null."""
    return json.dumps(_strict(content), indent=1, ensure_ascii=False, allow_nan=False)


def _strict(content: Any) -> Any:
    if isinstance(content, dict):
        return {key: _strict(value) for key, value in content.items()}
    if isinstance(content, list):
        return [_strict(value) for value in content]
    return None if isinstance(content, float) and not math.isfinite(content) else content
