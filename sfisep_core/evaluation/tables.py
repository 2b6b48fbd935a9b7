"""From the scores of tracks to tables: over frames, over sources, over tracks."""

import csv
import json
import math
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np

from sfisep_core.atomic import written_whole
from sfisep_core.evaluation.evaluate import Evaluation
from sfisep_core.evaluation.metrics import DEFINITIONS
from sfisep_core.evaluation.study import ALL_SOURCES, Differences, ScoreKey, Scores
from sfisep_core.evaluation.summary import compare, over_frames, summarise
from sfisep_core.evaluation.track_scores import TrackScores

SUMMARY_VERSION = 1

_FILTERED = ("isr", "sir", "sar")


def collect(tracks: Iterable[TrackScores]) -> Scores:
    """Gather the scores of tracks: of framewise ones the median over frames.

    Ill-conditioned ISR, SIR and SAR are left out. The mean over sources of a track is over those
    that sound in it, and exists only if all of these have the score.

    Args:
        tracks: Scores by track.

    Returns:
        All scores, infinite ones as well.
    """
    found: dict[ScoreKey, dict[str, float]] = defaultdict(dict)
    for scores in tracks:
        metrics: dict[str, dict[str, float]] = defaultdict(dict)
        for source, of_source in scores.sources.items():
            if source not in scores.silent_sources:
                for metric, frames in of_source.frames.items():
                    if not (metric in _FILTERED and scores.ill_conditioned):
                        metrics[metric][source] = over_frames(frames)
            for metric, value in of_source.whole.items():
                metrics[metric][source] = value
        sounding = set(scores.settings["sources"]) - set(scores.silent_sources)
        for metric, values in metrics.items():
            if metric != "leakage_db" and values.keys() == sounding:
                with np.errstate(invalid="ignore"):  # infinities of both signs have no mean
                    values[ALL_SOURCES] = float(np.mean(list(values.values())))
        if scores.equivariance_db is not None:
            metrics["equivariance_db"][ALL_SOURCES] = scores.equivariance_db
        for metric, values in metrics.items():
            for source, value in values.items():
                if not math.isnan(value):
                    key = ScoreKey(scores.sample_rate, scores.system, source, metric)
                    found[key][scores.track] = value
    return dict(found)


def pair(tracks: Sequence[TrackScores], systems: Sequence[str]) -> Differences:
    """Compare the first system with each of the others, track by track.

    Framewise scores are compared over the frames that both systems have: where one is silent in
    some, the other's easier or harder ones do not count.

    Args:
        tracks: Scores of all of them.
        systems: Their names.

    Returns:
        By score of the first system, and name of the other.
    """
    by_system: dict[str, dict[tuple[int, str], TrackScores]] = defaultdict(dict)
    for scores in tracks:
        by_system[scores.system][scores.sample_rate, scores.track] = scores
    first, found = by_system[systems[0]], {}
    for other in systems[1:]:
        both = [
            (first[place], by_system[other][place]) for place in first if place in by_system[other]
        ]
        of_first = collect(_with_common_frames(a, b) for a, b in both)
        of_other = collect(_with_common_frames(b, a) for a, b in both)
        for key, values in of_first.items():
            against = of_other.get(key._replace(system=other))
            if against is not None:
                better_up = DEFINITIONS[key.metric].higher_is_better
                found[key, other] = compare(values, against, higher_is_better=better_up)
    return found


def _with_common_frames(scores: TrackScores, other: TrackScores) -> TrackScores:
    """Take out the frames in which another system has no score."""
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


def summary_rows(scores: Scores) -> list[dict[str, Any]]:
    """Give a row for each score: which one it is, and its `Summary` over tracks."""
    return [key._asdict() | asdict(summarise(values.values())) for key, values in scores.items()]


def difference_rows(differences: Differences) -> list[dict[str, Any]]:
    """Give a row for each comparison: what the first system has ahead of another."""
    return [
        key._asdict() | {"minus": other} | asdict(difference)
        for (key, other), difference in differences.items()
    ]


def notes(tracks: Iterable[TrackScores]) -> list[dict[str, Any]]:
    """Say of each rate and system what was not scored, in numbers of tracks or frames."""
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


def report(
    evaluation: Evaluation, systems: Sequence[str], about: Mapping[str, Any]
) -> dict[str, Any]:
    """Give all tables; values that do not exist are NaN.

    Args:
        evaluation: What was scored.
        systems: Names; the first is compared with the others.
        about: What was run.
    """
    scores = collect(evaluation.scores)
    used = {key.metric for key in scores}
    return {
        "version": SUMMARY_VERSION,
        **about,
        "systems": list(systems),
        "definitions": {key: asdict(DEFINITIONS[key]) for key in DEFINITIONS if key in used},
        "scores": summary_rows(scores),
        "differences": difference_rows(pair(evaluation.scores, systems)),
        "notes": notes(evaluation.scores),
        "failures": [asdict(failure) for failure in evaluation.failures],
    }


def write_tables(out: Path, tables: Mapping[str, Any], scores: Scores) -> None:
    """Write summary.json, summary.csv, differences.csv and tracks.csv into a folder.

    Args:
        out: The folder.
        tables: What `report` gives.
        scores: What `collect` gives.

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
            writer.writerows(table)


def to_json(content: Mapping[str, Any]) -> str:
    """Give strict JSON, for any reader: what is NaN or infinite is null."""
    return json.dumps(_strict(content), indent=1, allow_nan=False)


def _strict(content: Any) -> Any:
    if isinstance(content, dict):
        return {key: _strict(value) for key, value in content.items()}
    if isinstance(content, list):
        return [_strict(value) for value in content]
    return None if isinstance(content, float) and not math.isfinite(content) else content
