"""The scores of one track."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np

from sfisep_core.errors import ConfigError
from sfisep_core.evaluation.bss_eval import METRICS, bss_eval
from sfisep_core.evaluation.improvement import improvement_scores
from sfisep_core.evaluation.metrics import (
    whole_track_scores,
)
from sfisep_core.evaluation.museval_reference import museval_scores
from sfisep_core.evaluation.signals import TrackSignals
from sfisep_core.evaluation.study import Samples
from sfisep_core.separation.permutation import are_unnamed

MetricSet = Literal["all", "sdr", "museval"]

SCORING_VERSION = 2
"""Increased whenever scores change: those of another version are computed again."""

FRAME_SECONDS = 1.0
"""Length and hop of a frame."""


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
        window_seconds=FRAME_SECONDS,
        hop_seconds=FRAME_SECONDS,
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
            window_seconds=FRAME_SECONDS,
            hop_seconds=FRAME_SECONDS,
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
