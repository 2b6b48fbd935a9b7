"""BSS Eval by the package `museval`, for users who need its exact values."""

import math
import shutil
import warnings
from collections.abc import Sequence
from typing import Any

import numpy as np

from sfisep_core.errors import ConfigError
from sfisep_core.evaluation.bss_eval import METRICS, BssEval
from sfisep_core.evaluation.ratios import Signal


def museval_scores(
    references: Signal,
    estimates: Signal,
    *,
    sample_rate: int,
    sources: Sequence[str] | None = None,
    window_seconds: float = 1.0,
    hop_seconds: float = 1.0,
) -> BssEval:
    """Score the estimates of all sources of a track with `museval.evaluate`.

    Args:
        references: Shape (source, channel, time).
        estimates: Same sources and channels; any length.
        sample_rate: Rate of both in Hz.
        sources: Names of the sources. None means "0", "1", ...
        window_seconds: Length of a frame.
        hop_seconds: Time from one frame to the next.

    Returns:
        Scores as of `bss_eval.bss_eval`, with a condition number of NaN, since museval has none.

    Raises:
        ConfigError: museval cannot be imported, as always without ffmpeg, or it rejects these
            signals: one is silent throughout, or the references are singular.
    """
    try:
        scores = _museval().evaluate(
            references.transpose(0, 2, 1),
            estimates.transpose(0, 2, 1),
            win=int(window_seconds * sample_rate),
            hop=int(hop_seconds * sample_rate),
        )
    # With numpy 2, museval's handling of a singular matrix raises an AttributeError.
    except (ValueError, AttributeError, np.linalg.LinAlgError) as error:
        msg = (
            f"museval refuses a track of {len(references)} sources: {error}; leave out silent "
            "sources, or use this package's own BSS Eval, which scores the others"
        )
        raise ConfigError(msg) from error
    names = tuple(map(str, range(len(references)))) if sources is None else tuple(sources)
    return BssEval(
        sources=names,
        sample_rate=sample_rate,
        window_seconds=window_seconds,
        hop_seconds=hop_seconds,
        **dict(zip(METRICS, scores, strict=True)),
        num_silent_frames=int(np.isnan(scores[0][0]).sum()),
        silent_sources=(),
        silent_estimates=(),
        leakage_db={},
        condition=math.nan,
    )


def _museval() -> Any:
    missing = [name for name in ("ffmpeg", "ffprobe") if shutil.which(name) is None]
    reason = f"not found: {', '.join(missing)}" if missing else None
    if reason is None:
        try:
            with warnings.catch_warnings():
                # Deprecation warnings of its dependencies do not concern the user.
                warnings.simplefilter("ignore", DeprecationWarning)
                import museval  # imported here, because the import fails without ffmpeg
        except (ImportError, RuntimeError) as error:
            reason = str(error)
    if reason is not None:
        msg = (
            "the scores of the package museval need it and the programs ffmpeg and ffprobe: "
            f"{reason}; install them (`apt-get install ffmpeg`, `brew install ffmpeg`, "
            "`conda install ffmpeg`), or use this package's own BSS Eval, which needs neither and "
            "gives the same values"
        )
        raise ConfigError(msg)
    return museval
