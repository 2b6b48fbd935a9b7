"""BSS Eval v4: framewise SDR, ISR, SIR and SAR, with the definitions of the package `museval`.

With the reference s of an estimate e, its projection p_own on filtered versions of s, and its
projection p_all on filtered versions of all references, the scores of a frame are

    SDR = |s|^2 / |e - s|^2                ISR = |s|^2 / |p_own - s|^2
    SIR = |p_own|^2 / |p_all - p_own|^2    SAR = |p_all|^2 / |e - p_all|^2

in dB, energies summed over channels and samples. The filters are the same for the whole track. A
frame is cut out and zero-padded by a filter's length before it is filtered. SDR does not depend on
the filters.

Source:
    F.-R. Stöter, A. Liutkus, N. Ito: The 2018 Signal Separation Evaluation Campaign, LVA/ICA 2018;
    E. Vincent, R. Gribonval, C. Févotte: Performance measurement in blind audio source separation,
    IEEE Transactions on Audio, Speech and Language Processing 14(4), 2006.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias, get_args

import numpy as np
import numpy.typing as npt
import torch

from sfisep_core.errors import ConfigError
from sfisep_core.evaluation.block_toeplitz import CONDITION_LIMIT
from sfisep_core.evaluation.distortion_filters import DistortionFilters, fit, samples
from sfisep_core.evaluation.ratios import Signal

Metric: TypeAlias = Literal["sdr", "isr", "sir", "sar"]
METRICS: tuple[Metric, ...] = get_args(Metric)

_PASS_SAMPLES = 2**14


@dataclass(frozen=True)
class BssEval:
    """Framewise scores of a track.

    Attributes:
        sources: Names of the sources.
        sample_rate: Rate in Hz at which they were scored.
        window_seconds: Length of a frame in seconds.
        hop_seconds: Time from one frame to the next in seconds.
        sdr: Source-to-distortion ratio in dB, shape (source, frame). NaN in silent frames and for
            silent sources; all NaN if it was not requested.
        isr: Image-to-spatial-distortion ratio, likewise.
        sir: Source-to-interference ratio, likewise.
        sar: Source-to-artifacts ratio, likewise.
        num_silent_frames: Number of frames that are NaN because a reference or an estimate is
            silent.
        silent_sources: Sources whose reference is silent throughout: not scored.
        silent_estimates: Other sources whose estimate is silent throughout: not scored.
        leakage_db: For each of `silent_sources`, the level of its estimate in dB relative to the
            sum of all references: -inf is ideal, NaN means that all references are silent.
        condition: Condition number of the references' Gram matrix. inf: too large to be computed.
            NaN: no filters were needed.
    """

    sources: tuple[str, ...]
    sample_rate: int
    window_seconds: float
    hop_seconds: float
    sdr: npt.NDArray[np.float64]
    isr: npt.NDArray[np.float64]
    sir: npt.NDArray[np.float64]
    sar: npt.NDArray[np.float64]
    num_silent_frames: int
    silent_sources: tuple[str, ...]
    silent_estimates: tuple[str, ...]
    leakage_db: dict[str, float]
    condition: float

    @property
    def ill_conditioned(self) -> bool:
        """Whether ISR, SIR and SAR come from a fit with a ridge; exclude them from summaries."""
        return self.condition > CONDITION_LIMIT


def bss_eval(
    references: Signal,
    estimates: Signal,
    *,
    sample_rate: int,
    sources: Sequence[str] | None = None,
    metrics: Sequence[Metric] = METRICS,
    window_seconds: float = 1.0,
    hop_seconds: float = 1.0,
    filter_length: int = 512,
    device: str = "cpu",
) -> BssEval:
    """Score the estimates of all sources of a track, in float64.

    Values are those of `museval.evaluate`, with its rules. Estimates that are longer than the
    references are cropped, shorter ones are zero-padded. Frames start every int(hop_seconds *
    sample_rate) samples and have int(window_seconds * sample_rate) samples. An incomplete last
    frame is left out, and a track shorter than a frame is one frame. A frame is NaN for all sources
    where any reference or estimate is silent, that is, where its channels sum to zero throughout.

    `museval` rejects tracks with sources that are silent throughout; here the other sources are
    scored. A source with a silent reference is excluded, and its estimate is rated by its level
    (`leakage_db`). A source with a silent estimate is not scored, but its reference still counts as
    interference.

    ISR, SIR and SAR depend on a least-squares fit of filters. If references are empty in a part of
    the band (32 kHz audio stored at 48 kHz) or a stereo source is a panned mono signal, the
    solution is not unique, and the values of `museval` are dominated by rounding. The measure of
    this is the ratio of the extreme eigenvalues of the references' Gram matrix. Above 1e12 a ridge
    of 1e-11 of the largest eigenvalue is used and `BssEval.ill_conditioned` is set: these values
    are stable, but differ from those of `museval`. SDR is not affected. Since 512 taps are 64 ms at
    8 kHz but 12 ms at 44.1 kHz, ISR, SIR and SAR are not comparable across sample rates; SDR is.

    In addition to the arguments, memory stays below 30 MB + (5 MB P + 0.1 MB P^2) max(1, L / 512)
    for P channels of all sources and L taps, 76 MB for four stereo sources, however long the track
    and its frames are.

    Args:
        references: Shape (source, channel, time), float32 or float64, finite.
        estimates: Same sources and channels; any length.
        sample_rate: Rate of both in Hz.
        sources: Names of the sources. None means "0", "1", ...
        metrics: What to compute.
        window_seconds: Length of a frame, at least one sample.
        hop_seconds: Time from one frame to the next, at least one sample.
        filter_length: Number of taps L of the filters.
        device: Where to compute: "cpu", "cuda" or "cuda:N".

    Returns:
        The scores.

    Raises:
        ConfigError: Shapes, names, metrics, lengths or the device are invalid, or a signal contains
            NaN or inf.
    """
    names = tuple(map(str, range(len(references)))) if sources is None else tuple(sources)
    window, hop = int(window_seconds * sample_rate), int(hop_seconds * sample_rate)
    _check(references, estimates, names, metrics, min(window, hop, filter_length), device)
    where = torch.device(device)
    length = references.shape[2]
    estimates = estimates[:, :, :length]

    is_silent = [_is_silent(reference) for reference in references]
    fitted = [number for number, silent in enumerate(is_silent) if not silent]
    scored = [number for number in fitted if not _is_silent(estimates[number])]
    s, e = [references[number] for number in fitted], [estimates[number] for number in scored]
    own = [fitted.index(number) for number in scored]
    filters = None
    if scored and {"isr", "sir", "sar"}.intersection(metrics):
        filters = fit(s, e, own=own, filter_length=filter_length, device=where)

    num_frames = (length - window) // hop + 1 if window < length else 1
    values = np.full((len(METRICS), len(names), num_frames), math.nan)
    num_silent_frames = 0
    for frame in range(num_frames):
        start, stop = frame * hop, min(frame * hop + window, length)
        s_frame, e_frame = [x[:, start:stop] for x in s], [x[:, start:stop] for x in e]
        if not scored or any(map(_is_silent, s_frame + e_frame)):
            num_silent_frames += 1
        else:
            values[:, scored, frame] = _ratios(s_frame, e_frame, own, filters, where).cpu().numpy()
    values[[metric not in metrics for metric in METRICS]] = math.nan
    silent = [number for number, flag in enumerate(is_silent) if flag]
    return BssEval(
        sources=names,
        sample_rate=sample_rate,
        window_seconds=window_seconds,
        hop_seconds=hop_seconds,
        **dict(zip(METRICS, values, strict=True)),
        num_silent_frames=num_silent_frames,
        silent_sources=tuple(names[number] for number in silent),
        silent_estimates=tuple(names[number] for number in fitted if number not in scored),
        leakage_db={names[number]: _leakage_db(estimates[number], references) for number in silent},
        condition=math.nan if filters is None else filters.condition,
    )


def _ratios(
    references: Sequence[Signal],
    estimates: Sequence[Signal],
    own: Sequence[int],
    filters: DistortionFilters | None,
    device: torch.device,
) -> torch.Tensor:
    """Compute SDR, ISR, SIR and SAR of a frame, shape (metric, estimate); NaN without filters."""
    numerators = torch.zeros((4, len(estimates)), dtype=torch.float64, device=device)
    denominators = torch.zeros_like(numerators)
    sources = [references[number] for number in own]
    frames = sources[0].shape[1]
    for start in range(0, frames, _PASS_SAMPLES):
        s, e = (
            samples(x, start, min(start + _PASS_SAMPLES, frames), device=device)
            for x in (sources, estimates)
        )
        numerators[0] += _energies(s)
        denominators[0] += _energies(e - s)
    if filters is None:
        numerators[1:] = math.nan
    else:
        numerators[1] = numerators[0]
        for start, (p_all, p_own) in filters.project(references):
            stop = start + p_all.shape[-1]
            s, e = (samples(x, start, stop, device=device) for x in (sources, estimates))
            denominators[1] += _energies(p_own - s)
            numerators[2] += _energies(p_own)
            denominators[2] += _energies(p_all - p_own)
            numerators[3] += _energies(p_all)
            denominators[3] += _energies(e - p_all)
    # 0 / 0 is inf too.
    return torch.where(denominators == 0, math.inf, 10 * torch.log10(numerators / denominators))


def _energies(signals: torch.Tensor) -> torch.Tensor:
    return signals.square().sum((1, 2))


def _passes(signals: Sequence[Signal]) -> Iterator[torch.Tensor]:
    """Yield pieces of signals, shape (signal, channel, time)."""
    frames = signals[0].shape[1]
    for start in range(0, frames, _PASS_SAMPLES):
        stop = min(start + _PASS_SAMPLES, frames)
        yield samples(signals, start, stop, device=torch.device("cpu"))


def _is_silent(signal: Signal) -> bool:
    return not any(bool(piece.sum(1).any()) for piece in _passes([signal]))


def _leakage_db(estimate: Signal, references: Signal) -> float:
    leaked = sum(float(piece.square().sum()) for piece in _passes([estimate]))
    mixture = sum(float(piece.sum(0).square().sum()) for piece in _passes(list(references)))
    if mixture == 0:
        return math.nan
    return 10 * math.log10(leaked / mixture) if leaked > 0 else -math.inf


def _check(
    references: Signal,
    estimates: Signal,
    names: tuple[str, ...],
    metrics: Sequence[str],
    shortest: int,
    device: str,
) -> None:
    problem = None
    shapes = f"got references {references.shape} and estimates {estimates.shape}"
    if references.ndim != 3 or references.shape[:2] != estimates.shape[:2] or estimates.ndim != 3:
        problem = (
            f"expected shape (source, channel, time) with the same sources and channels, {shapes}"
        )
    elif 0 in references.shape:
        problem = f"expected at least one source, channel and sample, {shapes}"
    elif len(set(names)) != len(references):
        problem = f"expected {len(references)} different names of sources, got {', '.join(names)}"
    elif not set(metrics) <= set(METRICS) or not metrics:
        problem = f"expected metrics of {', '.join(METRICS)}; got {', '.join(metrics) or 'none'}"
    elif shortest < 1:
        problem = f"expected window, hop and filters of at least one sample, got {shortest}"
    elif torch.device(device).type not in ("cpu", "cuda"):
        problem = f"expected a device that computes in float64, cpu or cuda, got {device}"
    else:
        for what, signals in (("reference", references), ("estimate", estimates)):
            for name, signal in zip(names, signals, strict=True):
                if not math.isfinite(signal.sum(dtype=np.float64)):
                    problem = f"the {what} of {name} holds NaN or inf: repair or leave out the file"
    if problem is not None:
        msg = f"BSS Eval: {problem}"
        raise ConfigError(msg)
