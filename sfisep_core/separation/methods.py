"""Ways of running a model on a whole signal at any rate, under one call: `run_method`."""

from typing import Literal, Protocol

import numpy as np
import numpy.typing as npt

from sfisep_core.audio.stores import MemoryStore, Store, Stores
from sfisep_core.audio.torchaudio_check import check_torchaudio
from sfisep_core.errors import ConfigError
from sfisep_core.models.contract import SeparationModel
from sfisep_core.separation.gains import apply_gain_rule
from sfisep_core.separation.native import (
    DEFAULT_RUN,
    Progress,
    RunOptions,
    separate_native,
    separate_store,
)
from sfisep_core.separation.rate_changes import (
    DEFAULT_OPTIONS,
    MethodOptions,
    RateChange,
    change_with_noisy_kernel,
    change_with_post_noise,
    change_with_sinc,
    change_with_soxr,
)
from sfisep_core.separation.super_resolution import super_resolve

MethodName = Literal[
    "native",
    "resample",
    "soxr",
    "noisy-kernel",
    "post-noise",
    "direct",
    "super-resolve",
    "super-resolve-share",
]


# They resample with torchaudio's windowed sinc.
_WITH_SINC = ("resample", "noisy-kernel", "post-noise", "super-resolve", "super-resolve-share")


class Method(Protocol):
    """A way of running a model, `run_method` without its first argument."""

    def __call__(
        self,
        model: SeparationModel,
        mixture: npt.NDArray[np.float32],
        *,
        sample_rate: int,
        run: RunOptions,
        options: MethodOptions,
        progress: Progress | None,
    ) -> npt.NDArray[np.float32]:
        """Separate."""


def check_method(name: str) -> None:
    """Refuse a method that does not exist, or that cannot run with the installed packages.

    Raises:
        ConfigError: The name is not one of `METHODS`, or the method needs torchaudio and it cannot
            be loaded.
    """
    if name not in METHODS:
        msg = f"method {name!r}: expected one of {', '.join(METHODS)}"
        raise ConfigError(msg)
    if name in _WITH_SINC:
        check_torchaudio(f"method {name}", instead="choose the method native, soxr or direct")


def run_method(
    name: MethodName,
    model: SeparationModel,
    mixture: npt.NDArray[np.float32],
    *,
    sample_rate: int,
    run: RunOptions = DEFAULT_RUN,
    options: MethodOptions = DEFAULT_OPTIONS,
    progress: Progress | None = None,
) -> npt.NDArray[np.float32]:
    """Separate with any method; at the model's native rate all of them are the same.

    Super-resolution is an exception, if it is told another rate to separate at.

    The gain rule is the same for all, at the same place: on what the model was given and what came
    out of it, at the rate of separation. A mixture-consistent model's stems are made to add up once
    more after they were resampled, since the resampled mixture is not the mixture.

    Args:
        name: One of `METHODS`.
        model: In evaluation mode, on its device.
        mixture: Shape (channel, time), any length from 0 on.
        sample_rate: Of the mixture, in Hz.
        run: How the signal is cut and computed; seconds are those of the rate that the model is
            told.
        options: Noise levels and seed of the methods that have any.
        progress: Called with seconds done and seconds in all.

    Returns:
        Stems in the model's order, shape (source, channel, time), of the mixture's length.

    Raises:
        ConfigError: There is no such method, or the model cannot work at this rate.
        DeviceError: Not enough memory, even for short segments.
    """
    check_method(name)
    model = _with_restorer(name, model, sample_rate, options)
    method = METHODS["native" if sample_rate == model.native_rate else name]
    return method(
        model,
        mixture,
        sample_rate=sample_rate,
        run=run,
        options=options,
        progress=progress,
    )


def run_stored(
    name: MethodName,
    model: SeparationModel,
    mixture: Store,
    *,
    stores: Stores,
    sample_rate: int,
    run: RunOptions = DEFAULT_RUN,
    options: MethodOptions = DEFAULT_OPTIONS,
    progress: Progress | None = None,
) -> Store:
    """Do what `run_method` does to a stored signal.

    "native" needs memory for a few windows only. The methods that it is compared with hold the
    signal and its stems in memory.

    Args:
        name: One of `METHODS`.
        model: In evaluation mode, on its device.
        mixture: Shape (channel, time), any length from 0 on.
        stores: Makes the store of the stems.
        sample_rate: Of the mixture, in Hz.
        run: How the signal is cut and computed.
        options: Noise levels and seed of the methods that have any.
        progress: Called with seconds done and seconds in all.

    Returns:
        Stems in the model's order, shape (source, channel, time), of the mixture's length.

    Raises:
        AudioFileError: The disk has no room for the stems.
        ConfigError: There is no such method, or the model cannot work at this rate.
        DeviceError: Not enough memory, even for short segments.
    """
    check_method(name)
    model = _with_restorer(name, model, sample_rate, options)
    if METHODS[name] is _native or sample_rate == model.native_rate:
        return separate_store(
            model, mixture, stores=stores, sample_rate=sample_rate, run=run, progress=progress
        )
    return MemoryStore(
        run_method(
            name,
            model,
            mixture.read(0, mixture.frames),
            sample_rate=sample_rate,
            run=run,
            options=options,
            progress=progress,
        )
    )


def _with_restorer(
    name: MethodName, model: SeparationModel, sample_rate: int, options: MethodOptions
) -> SeparationModel:
    """Give the model that a method runs: only super-resolution has one of its own."""
    if name not in ("super-resolve", "super-resolve-share"):
        return model
    return super_resolve(
        model,
        sample_rate=sample_rate,
        low_rate=options.low_rate,
        network=options.network,
        shares_only=name == "super-resolve-share",
    )


def _native(
    model: SeparationModel,
    mixture: npt.NDArray[np.float32],
    *,
    sample_rate: int,
    run: RunOptions,
    options: MethodOptions,
    progress: Progress | None,
) -> npt.NDArray[np.float32]:
    del options
    return separate_native(model, mixture, sample_rate=sample_rate, run=run, progress=progress)


def _direct(
    model: SeparationModel,
    mixture: npt.NDArray[np.float32],
    *,
    sample_rate: int,
    run: RunOptions,
    options: MethodOptions,
    progress: Progress | None,
) -> npt.NDArray[np.float32]:
    """Give the model the samples as if they were of its native rate."""
    del options
    stretch = model.native_rate / sample_rate  # of the recording's seconds a second of the model's

    def report(done: float, total: float) -> None:
        if progress is not None:
            progress(done * stretch, total * stretch)

    return separate_native(model, mixture, sample_rate=model.native_rate, run=run, progress=report)


def _resampled(there: RateChange, back: RateChange) -> Method:
    """Make the method that separates at the native rate, between two changes of rate."""

    def separate(
        model: SeparationModel,
        mixture: npt.NDArray[np.float32],
        *,
        sample_rate: int,
        run: RunOptions,
        options: MethodOptions,
        progress: Progress | None,
    ) -> npt.NDArray[np.float32]:
        native_rate, length = model.native_rate, mixture.shape[-1]
        stems = separate_native(
            model,
            there(mixture, sample_rate, native_rate, options),
            sample_rate=native_rate,
            run=run,
            progress=progress,
        )
        # There and back is never shorter than the signal: both lengths are rounded up.
        stems = back(stems, native_rate, sample_rate, options)[..., :length]
        if model.gain_rule == "mixture-consistent":
            apply_gain_rule(
                model.gain_rule, MemoryStore(stems), MemoryStore(mixture), sample_rate=sample_rate
            )
        return stems

    return separate


METHODS: dict[MethodName, Method] = {
    "native": _native,
    "resample": _resampled(change_with_sinc, change_with_sinc),
    "soxr": _resampled(change_with_soxr, change_with_soxr),
    "noisy-kernel": _resampled(change_with_noisy_kernel, change_with_sinc),
    "post-noise": _resampled(change_with_post_noise, change_with_sinc),
    "direct": _direct,
    "super-resolve": _native,
    "super-resolve-share": _native,
}
