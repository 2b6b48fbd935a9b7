"""Files of the scores of one track, in the layout of museval's files."""

import json
import math
from collections.abc import Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from sfisep_core.evaluation.bss_eval import METRICS
from sfisep_core.evaluation.metrics import DEFINITIONS, IMPROVEMENT_METRICS, WHOLE_TRACK_METRICS
from sfisep_core.evaluation.track_scores import FRAME_SECONDS, SourceScores, TrackScores
from sfisep_core.foreign import MAX_COUNT, read_json_object
from sfisep_core.foundation.atomic import written_whole
from sfisep_core.separation.permutation import are_unnamed


def write_track_scores(path: Path, scores: TrackScores) -> None:
    """Write a file that museval's tools can read.

    `targets` has the layout of museval's files: values there that do not exist or are infinite are
    NaN. The other fields are additions.

    Raises:
        OSError: It cannot be written.
    """
    targets = []
    for source, of_source in scores.sources.items():
        columns = [of_source.frames[metric] for metric in METRICS]
        frames = [
            {
                "time": number * FRAME_SECONDS,
                "duration": FRAME_SECONDS,
                "metrics": {
                    metric.upper(): value if math.isfinite(value) else math.nan
                    for metric, value in zip(METRICS, values, strict=True)
                },
            }
            for number, values in enumerate(zip(*columns, strict=True))
        ]
        targets.append({"name": source, "frames": frames})
    own = asdict(scores)
    own["sources"] = {source: of_source.whole for source, of_source in scores.sources.items()}
    used = {key for of_source in scores.sources.values() for key in of_source.whole}
    used |= set(METRICS) | ({"equivariance_db"} if scores.equivariance_db is not None else set())
    content = {
        "targets": targets,
        "sfisep": own,
        "definitions": {key: asdict(DEFINITIONS[key]) for key in DEFINITIONS if key in used},
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    with written_whole(path) as temporary:
        temporary.write_text(json.dumps(content, indent=1), encoding="utf-8")


def _has_types(scores: TrackScores) -> bool:
    names = [scores.silent_sources, scores.silent_estimates]
    expected = set(WHOLE_TRACK_METRICS)
    if are_unnamed(scores.settings["sources"]):
        expected |= set(IMPROVEMENT_METRICS)
    return (
        all(
            isinstance(listed, list) and set(listed) <= set(scores.settings["sources"])
            for listed in names
        )
        and isinstance(scores.num_silent_frames, int)
        and 0 <= scores.num_silent_frames <= MAX_COUNT
        and isinstance(scores.condition, float)
        and isinstance(scores.ill_conditioned, bool)
        and isinstance(scores.equivariance_db, float | None)
        and all(
            of_source.whole.keys()
            == ({"leakage_db"} if source in scores.silent_sources else expected)
            for source, of_source in scores.sources.items()
        )
    )


def read_track_scores(path: Path) -> TrackScores | None:
    """Read a file of `write_track_scores`; None if it is missing or outdated.

    Infinite values of frames are read as NaN.
    """
    try:
        content = read_json_object(path)
        own = content["sfisep"]
        frames = {
            target["name"]: {
                str(metric): [float(f["metrics"][metric.upper()]) for f in target["frames"]]
                for metric in METRICS
            }
            for target in content["targets"]
        }
        own["sources"] = {
            source: SourceScores(frames[source], {key: float(v) for key, v in whole.items()})
            for source, whole in own["sources"].items()
        }
        scores = TrackScores(**own)
        # Check what a summary relies on.
        counts = {len(f) for s in scores.sources.values() for f in s.frames.values()}
        whole = len(counts) == 1 and 0 not in counts and isinstance(scores.settings, dict)
        return scores if whole and _has_types(scores) else None
    except (OSError, ValueError, KeyError, TypeError, AttributeError, ArithmeticError):
        return None


def narrowed(scores: TrackScores, settings: Mapping[str, Any]) -> TrackScores | None:
    """Return scores as a call with the given settings would compute them.

    Args:
        scores: Stored scores.
        settings: As `TrackScores.settings`.

    Returns:
        The scores, without those that were not requested; None if a requested one is missing, or
        they depend on something else.
    """
    stored = dict(scores.settings)
    if stored.get("metrics") == "all" and settings["metrics"] == "sdr":
        stored["metrics"] = "sdr"
        scores = replace(
            scores,
            sources={
                name: replace(of_source, frames=_sdr_alone(of_source.frames))
                for name, of_source in scores.sources.items()
            },
            condition=math.nan,
            ill_conditioned=False,
        )
    if stored.get("equivariance") and not settings["equivariance"]:
        stored["equivariance"] = False
        scores = replace(scores, equivariance_db=None)
    return replace(scores, settings=stored) if stored == settings else None


def _sdr_alone(frames: Mapping[str, list[float]]) -> dict[str, list[float]]:
    return {
        metric: values if metric == "sdr" else [math.nan] * len(values)
        for metric, values in frames.items()
    }
