"""From the scores of tracks to tables: over frames, over sources, over tracks."""

import csv
import json
import math
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from sfisep_core.atomic import written_whole
from sfisep_core.evaluation.evaluate import Evaluation
from sfisep_core.evaluation.metrics import DEFINITIONS
from sfisep_core.evaluation.study import ALL_SOURCES, ScoreKey, Scores
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
        All scores, those that are not finite as well.
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
        for metric, values in metrics.items():
            if metric != "leakage_db":
                values[ALL_SOURCES] = sum(values.values()) / len(values)
            for source, value in values.items():
                key = ScoreKey(scores.sample_rate, scores.system, source, metric)
                found[key][scores.track] = value
        if scores.equivariance_db is not None:
            key = ScoreKey(scores.sample_rate, scores.system, ALL_SOURCES, "equivariance_db")
            found[key][scores.track] = scores.equivariance_db
    return {key: of_key for key, of_key in found.items() if any(map(_exists, of_key.values()))}


def _exists(value: float) -> bool:
    return not math.isnan(value)


def summary_rows(scores: Scores) -> list[dict[str, Any]]:
    """Give a row for each score: which one it is, and its `Summary` over tracks."""
    return [key._asdict() | asdict(summarise(values.values())) for key, values in scores.items()]


def difference_rows(scores: Scores, systems: Sequence[str]) -> list[dict[str, Any]]:
    """Give a row for each score and each system but the first: what the first has ahead of it."""
    rows = []
    for key, values in scores.items():
        for other in systems[1:]:
            against = scores.get(key._replace(system=other))
            if key.system == systems[0] and against is not None:
                row = key._asdict() | {"minus": other} | asdict(compare(values, against))
                rows.append(row)
    return rows


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
    """Give all tables, for JSON; values that do not exist are None.

    Args:
        evaluation: What was scored.
        systems: Names; the first is compared with the others.
        about: What was run.
    """
    scores = collect(evaluation.scores)
    used = {key.metric for key in scores}
    content = {
        "version": SUMMARY_VERSION,
        **about,
        "systems": list(systems),
        "definitions": {key: asdict(DEFINITIONS[key]) for key in DEFINITIONS if key in used},
        "scores": summary_rows(scores),
        "differences": difference_rows(scores, systems),
        "notes": notes(evaluation.scores),
        "failures": [asdict(failure) for failure in evaluation.failures],
    }
    cleaned: dict[str, Any] = _strict(content)
    return cleaned


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
    """Give strict JSON, for any reader."""
    return json.dumps(content, indent=1, allow_nan=False)


def _strict(content: Any) -> Any:
    if isinstance(content, dict):
        return {key: _strict(value) for key, value in content.items()}
    if isinstance(content, list):
        return [_strict(value) for value in content]
    return None if isinstance(content, float) and not math.isfinite(content) else content
