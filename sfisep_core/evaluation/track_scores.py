"""The scores of one track, and their file, in the layout of museval's files."""

import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np

from sfisep_core.errors import ConfigError
from sfisep_core.evaluation.bss_eval import METRICS, bss_eval
from sfisep_core.evaluation.improvement import improvement_scores
from sfisep_core.evaluation.metrics import (
    DEFINITIONS,
    IMPROVEMENT_METRICS,
    WHOLE_TRACK_METRICS,
    whole_track_scores,
)
from sfisep_core.evaluation.museval_reference import museval_scores
from sfisep_core.evaluation.signals import TrackSignals
from sfisep_core.evaluation.study import Samples
from sfisep_core.foreign import MAX_COUNT, read_json_object
from sfisep_core.foundation.atomic import written_whole
from sfisep_core.separation.permutation import are_unnamed

MetricSet = Literal["all", "sdr", "museval"]

SCORING_VERSION = 2
"""Increased whenever scores change: those of another version are computed again."""

_SECONDS = 1.0  # length and hop of a frame


@dataclass(frozen=True)
class SourceScores:
    """Scores of one source.

    Attributes:
        frames: By key in `bss_eval.METRICS`, values in dB of every frame; NaN where there is no
            score.
        whole: By key in `metrics.DEFINITIONS`, values in dB of the whole track.
    """

    frames: dict[str, list[float]]
    whole: dict[str, float]


@dataclass(frozen=True)
class TrackScores:
    """Scores of one system on one track.

    Attributes:
        track: Its name.
        split: "train", "valid" or "test".
        system: Name of the system.
        sample_rate: Rate of scoring in Hz.
        settings: Everything that the scores depend on.
        sources: Scores by source; sources without an estimate are left out.
        silent_sources: Sources whose reference is silent throughout; only their leakage is scored.
        silent_estimates: Other sources whose estimate is silent throughout: no framewise scores.
        num_silent_frames: Number of frames without scores, where a reference or estimate is silent.
        condition: Condition number of the references' Gram matrix; NaN if no filters were used.
        ill_conditioned: Whether ISR, SIR and SAR are not determined by the references.
        equivariance_db: See `equivariance.equivariance_db`; None if not requested.
        estimates_saved: Whether the estimates were also written.
    """

    track: str
    split: str
    system: str
    sample_rate: int
    settings: dict[str, Any]
    sources: dict[str, SourceScores]
    silent_sources: list[str]
    silent_estimates: list[str]
    num_silent_frames: int
    condition: float
    ill_conditioned: bool
    equivariance_db: float | None = None
    estimates_saved: bool = False


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


def score_track(
    signals: TrackSignals,
    estimates: Mapping[str, Samples],
    *,
    system: str,
    settings: dict[str, Any],
    metrics: MetricSet,
    device: str,
) -> TrackScores:
    """Score the estimates of a track.

    Estimates that are longer than the references are cropped, shorter ones are zero-padded.

    Args:
        signals: The track.
        estimates: By source, shape (channel, time); sources may be missing.
        system: Name of the system.
        settings: What they depend on, stored with the scores.
        metrics: "all"; "sdr": without ISR, SIR and SAR, which take most of the time; "museval":
            these four by the package museval.
        device: Device of BSS Eval, "cpu" or "cuda".

    Returns:
        The scores.

    Raises:
        ConfigError: Signals contain NaN or Inf, or museval cannot score them.
    """
    references, length = signals.references, signals.references.shape[-1]
    # The reference of a source without an estimate still counts as interference.
    fitted = np.zeros(references.shape, dtype=np.float32)
    for number, source in enumerate(signals.sources):
        if source in estimates:
            estimate = estimates[source][:, :length]
            fitted[number, :, : estimate.shape[1]] = estimate
    framewise = bss_eval(
        references,
        fitted,
        sample_rate=signals.sample_rate,
        sources=signals.sources,
        metrics=("sdr",) if metrics == "sdr" else METRICS,
        window_seconds=_SECONDS,
        hop_seconds=_SECONDS,
        device=device,
    )
    if metrics == "museval":
        missing = [source for source in signals.sources if source not in estimates]
        if missing:
            msg = (
                f"museval on {signals.name}: expected estimates of all sources, found none of "
                f"{', '.join(missing)}: leave out --metrics museval to score the others"
            )
            raise ConfigError(msg)
        theirs = museval_scores(
            references,
            fitted,
            sample_rate=signals.sample_rate,
            sources=signals.sources,
            window_seconds=_SECONDS,
            hop_seconds=_SECONDS,
        )
        # museval does not report how well its filters are determined.
        framewise = replace(theirs, condition=framewise.condition)
    sources: dict[str, SourceScores] = {}
    for number, source in enumerate(signals.sources):
        if source not in estimates:
            continue
        if source in framewise.silent_sources:
            whole = {"leakage_db": framewise.leakage_db[source]}
        else:
            whole = whole_track_scores(
                estimate=fitted[number],
                reference=references[number],
                sample_rate=signals.sample_rate,
            )
            if are_unnamed(signals.sources):
                whole |= improvement_scores(
                    estimate=fitted[number],
                    reference=references[number],
                    mixture=signals.mixture,
                    device=device,
                )
        frames = {str(metric): getattr(framewise, metric)[number].tolist() for metric in METRICS}
        sources[source] = SourceScores(frames, whole)
    return TrackScores(
        track=signals.name,
        split=signals.split,
        system=system,
        sample_rate=signals.sample_rate,
        settings=settings,
        sources=sources,
        silent_sources=list(framewise.silent_sources),
        silent_estimates=[name for name in framewise.silent_estimates if name in estimates],
        num_silent_frames=framewise.num_silent_frames,
        condition=framewise.condition,
        ill_conditioned=framewise.ill_conditioned,
    )


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
                "time": number * _SECONDS,
                "duration": _SECONDS,
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
