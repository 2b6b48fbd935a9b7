"""Ways of running a model on a whole signal at any rate."""

import logging
import math
from collections.abc import Callable
from typing import Literal

import numpy as np
import numpy.typing as npt
import torch

from sfisep_core.audio.chunks import OverlapAdd, plan_chunks
from sfisep_core.audio.resample import resample, sinc_fits, sinc_resample
from sfisep_core.models.contract import SeparationModel
from sfisep_core.separation.gains import apply_gain_rule

_logger = logging.getLogger(__name__)

MethodName = Literal["native", "resample"]
Progress = Callable[[float, float], None]

# Neighbouring segments are cross-faded over this long. Where they agree a short fade is enough.
_FADE_SECONDS = 0.05
_FADE_SECONDS_NOT_INVARIANT = 1.0


def separate_native(
    model: SeparationModel,
    mixture: npt.NDArray[np.float32],
    *,
    sample_rate: int,
    segment: float | None = None,
    progress: Progress | None = None,
) -> npt.NDArray[np.float32]:
    """Separate at the signal's own rate.

    Args:
        model: In evaluation mode, on its device.
        mixture: Shape (channel, time).
        sample_rate: Hz.
        segment: Seconds of a segment; 0 = the whole signal at once, None = the model's own.
        progress: Called with seconds done and seconds in all.

    Returns:
        Stems in the model's order, shape (source, channel, time).

    Raises:
        ConfigError: The model cannot work at this rate.
    """
    level = _level(mixture) if model.normalizes_level else None
    signal = mixture if level is None else mixture / level
    stems = _run_in_chunks(
        model, signal, sample_rate=sample_rate, segment=segment, progress=progress
    )
    if level is not None:
        stems *= level
    if model.gain_rule == "mixture-consistent" and level is None:
        return stems  # the model's own stems add up, and so do cross-fades of them
    return apply_gain_rule(model.gain_rule, stems, mixture, sample_rate=sample_rate)


def separate_resampled(
    model: SeparationModel,
    mixture: npt.NDArray[np.float32],
    *,
    sample_rate: int,
    segment: float | None = None,
    progress: Progress | None = None,
) -> npt.NDArray[np.float32]:
    """Separate at the model's native rate: resample, separate, resample the stems back.

    The paper's baseline, with torchaudio's default windowed sinc (soxr for pairs of rates whose
    sinc filters would fill the memory, such as 44101 Hz and 32 kHz). The gain rule is applied at
    the rate of separation, as in `separate_native`; a mixture-consistent model's stems are made to
    add up once more at the end, since the resampled mixture is not the mixture.

    Args and returns are those of `separate_native`.

    Source: Saito et al. 2022, section V.
    """
    native_mixture = _change_rate(mixture, sample_rate, model.native_rate)
    native_stems = separate_native(
        model, native_mixture, sample_rate=model.native_rate, segment=segment, progress=progress
    )
    stems = _change_rate(native_stems, model.native_rate, sample_rate, mixture.shape[-1])
    if model.gain_rule == "mixture-consistent":
        stems = apply_gain_rule(model.gain_rule, stems, mixture, sample_rate=sample_rate)
    return stems


METHODS: dict[MethodName, Callable[..., npt.NDArray[np.float32]]] = {
    "native": separate_native,
    "resample": separate_resampled,
}


def _change_rate(
    signal: npt.NDArray[np.float32], orig_rate: int, target_rate: int, length: int | None = None
) -> npt.NDArray[np.float32]:
    if sinc_fits(orig_rate=orig_rate, target_rate=target_rate):
        return sinc_resample(
            torch.from_numpy(signal), orig_rate=orig_rate, target_rate=target_rate, length=length
        ).numpy()
    _logger.info("resampling from %d to %d Hz with soxr", orig_rate, target_rate)
    channels = signal.reshape(math.prod(signal.shape[:-1]), signal.shape[-1])
    resampled = resample(channels, orig_rate=orig_rate, target_rate=target_rate, length=length)
    return resampled.reshape(*signal.shape[:-1], resampled.shape[-1])


@torch.inference_mode()
def _run_in_chunks(
    model: SeparationModel,
    signal: npt.NDArray[np.float32],
    *,
    sample_rate: int,
    segment: float | None,
    progress: Progress | None,
) -> npt.NDArray[np.float32]:
    device = next(model.parameters()).device
    rule = model.segments
    fade = _FADE_SECONDS if rule.chunk_invariant else _FADE_SECONDS_NOT_INVARIANT
    chunks = plan_chunks(
        signal.shape[-1],
        segment=math.ceil((rule.seconds if segment is None else segment) * sample_rate),
        context=rule.context_seconds * sample_rate,
        fade=round(fade * sample_rate),
        alignment=model.chunk_alignment(sample_rate),
    )
    stems = np.zeros((len(model.sources), *signal.shape), dtype=np.float32)
    joined, done = OverlapAdd(chunks), 0
    for index, chunk in enumerate(chunks):
        part = torch.from_numpy(np.ascontiguousarray(signal[:, chunk.start : chunk.stop]))
        estimate = model(part.unsqueeze(0).to(device), sample_rate=sample_rate)[0]
        final = joined.push(index, estimate.cpu().numpy())
        stems[..., done : done + final.shape[-1]] = final
        done += final.shape[-1]
        if progress is not None:
            progress(done / sample_rate, signal.shape[-1] / sample_rate)
    return stems


def _level(mixture: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """Give each channel's standard deviation, shape (channel, 1); 1 where a channel is constant."""
    if mixture.shape[-1] < 2:
        return np.ones((mixture.shape[0], 1), dtype=np.float32)
    deviation = mixture.std(axis=1, ddof=1, dtype=np.float64, keepdims=True).astype(np.float32)
    return np.where(deviation > 0, deviation, np.float32(1.0))
