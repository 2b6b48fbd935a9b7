"""Ways of running a model on a whole signal at any rate, under one call: `run_method`."""

import math
from collections.abc import Callable
from typing import Literal, Protocol

import numpy as np
import numpy.typing as npt
import torch

from sfisep_core.audio.chunks import OverlapAdd, plan_chunks
from sfisep_core.errors import ConfigError
from sfisep_core.models.contract import SeparationModel
from sfisep_core.separation.gains import apply_gain_rule
from sfisep_core.separation.rate_changes import (
    DEFAULT_OPTIONS,
    MethodOptions,
    RateChange,
    change_with_noisy_kernel,
    change_with_post_noise,
    change_with_sinc,
    change_with_soxr,
)

MethodName = Literal["native", "resample", "soxr", "noisy-kernel", "post-noise", "direct"]
Progress = Callable[[float, float], None]

# Neighbouring segments are cross-faded over this long. Where they agree a short fade is enough.
_FADE_SECONDS = 0.05
_FADE_SECONDS_NOT_INVARIANT = 1.0


class Method(Protocol):
    """A way of running a model, `run_method` without its first argument."""

    def __call__(
        self,
        model: SeparationModel,
        mixture: npt.NDArray[np.float32],
        *,
        sample_rate: int,
        segment: float | None,
        options: MethodOptions,
        progress: Progress | None,
    ) -> npt.NDArray[np.float32]:
        """Separate."""


def check_method(name: str) -> None:
    """Refuse what is no name of a method.

    Raises:
        ConfigError: The name is not one of `METHODS`.
    """
    if name not in METHODS:
        msg = f"method {name!r}: expected one of {', '.join(METHODS)}"
        raise ConfigError(msg)


def run_method(
    name: MethodName,
    model: SeparationModel,
    mixture: npt.NDArray[np.float32],
    *,
    sample_rate: int,
    segment: float | None = None,
    options: MethodOptions = DEFAULT_OPTIONS,
    progress: Progress | None = None,
) -> npt.NDArray[np.float32]:
    """Separate with any method; at the model's native rate all of them are the same.

    The gain rule is the same for all, at the same place: on what the model was given and what came
    out of it, at the rate of separation. A mixture-consistent model's stems are made to add up once
    more after they were resampled, since the resampled mixture is not the mixture.

    Args:
        name: One of `METHODS`.
        model: In evaluation mode, on its device.
        mixture: Shape (channel, time), any length from 0 on.
        sample_rate: Of the mixture, in Hz.
        segment: Seconds of a segment, at the rate that the model is told; 0 = the whole signal at
            once, None = the model's own.
        options: Noise levels and seed of the methods that have any.
        progress: Called with seconds done and seconds in all.

    Returns:
        Stems in the model's order, shape (source, channel, time), of the mixture's length.

    Raises:
        ConfigError: There is no such method, or the model cannot work at this rate.
    """
    check_method(name)
    method = METHODS["native" if sample_rate == model.native_rate else name]
    return method(
        model,
        mixture,
        sample_rate=sample_rate,
        segment=segment,
        options=options,
        progress=progress,
    )


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


def _native(
    model: SeparationModel,
    mixture: npt.NDArray[np.float32],
    *,
    sample_rate: int,
    segment: float | None,
    options: MethodOptions,
    progress: Progress | None,
) -> npt.NDArray[np.float32]:
    del options
    return separate_native(
        model, mixture, sample_rate=sample_rate, segment=segment, progress=progress
    )


def _direct(
    model: SeparationModel,
    mixture: npt.NDArray[np.float32],
    *,
    sample_rate: int,
    segment: float | None,
    options: MethodOptions,
    progress: Progress | None,
) -> npt.NDArray[np.float32]:
    """Give the model the samples as if they were of its native rate."""
    del options
    stretch = model.native_rate / sample_rate  # of the recording's seconds a second of the model's

    def report(done: float, total: float) -> None:
        if progress is not None:
            progress(done * stretch, total * stretch)

    return separate_native(
        model, mixture, sample_rate=model.native_rate, segment=segment, progress=report
    )


def _resampled(there: RateChange, back: RateChange) -> Method:
    """Make the method that separates at the native rate, between two changes of rate."""

    def separate(
        model: SeparationModel,
        mixture: npt.NDArray[np.float32],
        *,
        sample_rate: int,
        segment: float | None,
        options: MethodOptions,
        progress: Progress | None,
    ) -> npt.NDArray[np.float32]:
        native_rate, length = model.native_rate, mixture.shape[-1]
        stems = separate_native(
            model,
            there(mixture, sample_rate, native_rate, options),
            sample_rate=native_rate,
            segment=segment,
            progress=progress,
        )
        # There and back is never shorter than the signal: both lengths are rounded up.
        stems = back(stems, native_rate, sample_rate, options)[..., :length]
        if model.gain_rule == "mixture-consistent":
            stems = apply_gain_rule(model.gain_rule, stems, mixture, sample_rate=sample_rate)
        return stems

    return separate


METHODS: dict[MethodName, Method] = {
    "native": _native,
    "resample": _resampled(change_with_sinc, change_with_sinc),
    "soxr": _resampled(change_with_soxr, change_with_soxr),
    "noisy-kernel": _resampled(change_with_noisy_kernel, change_with_sinc),
    "post-noise": _resampled(change_with_post_noise, change_with_sinc),
    "direct": _direct,
}


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
