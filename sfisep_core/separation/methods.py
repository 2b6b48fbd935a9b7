"""Ways of running a model on a whole signal at any rate, under one call: `separate_signal`."""

from collections.abc import Sequence
from typing import Protocol

from sfisep_core.audio.stores import MemoryStore, Signal, Store, Stores, read_all
from sfisep_core.audio.torchaudio_check import check_torchaudio
from sfisep_core.models.contract import SeparationModel
from sfisep_core.separation.averaging import Run, mean_of_runs, shift_delays
from sfisep_core.separation.gains import apply_gain_rule
from sfisep_core.separation.parts import separate_in_parts
from sfisep_core.separation.rate_changes import (
    RateChange,
    change_with_noisy_kernel,
    change_with_post_noise,
    change_with_sinc,
    change_with_soxr,
)
from sfisep_core.separation.settings import (
    DEFAULT_SETTINGS,
    MethodName,
    Progress,
    SeparationSettings,
)
from sfisep_core.separation.super_resolution import super_resolve

# Methods that resample with torchaudio's windowed sinc.
_WITH_SINC = ("resample", "noisy-kernel", "post-noise", "super-resolve")


class Method(Protocol):
    """A way of running a model; arguments and result are those of `separate_signal`."""

    def __call__(
        self,
        model: SeparationModel,
        mixture: Signal,
        *,
        sample_rate: int,
        stores: Stores,
        settings: SeparationSettings,
        progress: Progress | None,
    ) -> Store:
        """Separate."""


def check_method(name: str) -> None:
    """Check that a method can run with the installed packages.

    Args:
        name: One of `METHODS`.

    Raises:
        ConfigError: It needs torchaudio, which cannot be loaded.
    """
    if name in _WITH_SINC:
        check_torchaudio(f"method {name}", instead="choose the method native, soxr or direct")


def separate_signal(
    model: SeparationModel | Sequence[SeparationModel],
    mixture: Signal,
    *,
    sample_rate: int,
    settings: SeparationSettings = DEFAULT_SETTINGS,
    stores: Stores | None = None,
    progress: Progress | None = None,
) -> Store:
    """Separate a signal of any length with the method named in the settings.

    For an array pass `MemoryStore(array)`; `read_all` returns the stems as an array.

    The methods that resample keep the signal and its stems in memory, all others a few windows. At
    the model's native rate all methods are the same, except super-resolution with another low rate.

    All methods apply the gain rule to the model's input and output, at the rate of separation. For
    a mixture-consistent model it is applied again after the stems were resampled, because the
    mixture that was resampled twice differs from the original mixture.

    Args:
        model: A model in evaluation mode, on its device; or several whose stems are averaged by
            name.
        mixture: Shape (channel, time), any length from 0 on.
        sample_rate: Sample rate of the mixture in Hz.
        settings: Method, and how the signal is cut and computed.
        stores: Creates the store of the stems; None = in memory.
        progress: Called with seconds done and total seconds.

    Returns:
        Stems in the (first) model's order, shape (source, channel, time), of the mixture's length.

    Raises:
        AudioFileError: There is not enough disk space for the stems.
        CheckpointError: The network of super-resolution is missing or cannot be read.
        ConfigError: The model cannot work at this rate, or not with this network.
        DeviceError: Not enough memory, even for short segments.
    """
    models = (model,) if isinstance(model, SeparationModel) else model
    space = Stores() if stores is None else stores

    def run_of(model: SeparationModel, delay: int) -> Run:
        def separate(mixture: Signal, progress: Progress | None) -> Store:
            return METHODS[settings.method](
                model,
                mixture,
                sample_rate=sample_rate,
                stores=space,
                settings=settings,
                progress=progress,
            )

        return Run(separate, model.sources, delay)

    delays = shift_delays(settings.shifts, sample_rate)
    runs = [run_of(model, delay) for model in models for delay in delays]
    if len(runs) == 1:
        return runs[0].separate(mixture, progress)
    return mean_of_runs(
        runs,
        mixture,
        sources=runs[0].sources,
        sample_rate=sample_rate,
        stores=space,
        progress=progress,
    )


def _direct(
    model: SeparationModel,
    mixture: Signal,
    *,
    sample_rate: int,
    stores: Stores,
    settings: SeparationSettings,
    progress: Progress | None,
) -> Store:
    """Pass the samples to the model as if they had its native rate."""
    stretch = model.native_rate / sample_rate  # seconds of the recording per second of the model

    def report(done: float, total: float) -> None:
        if progress is not None:
            progress(done * stretch, total * stretch)

    return separate_in_parts(
        model,
        mixture,
        sample_rate=model.native_rate,
        stores=stores,
        settings=settings,
        progress=report,
    )


def _resampled(there: RateChange, back: RateChange) -> Method:
    """Build the method that separates at the native rate, between two changes of rate."""

    def separate(
        model: SeparationModel,
        mixture: Signal,
        *,
        sample_rate: int,
        stores: Stores,
        settings: SeparationSettings,
        progress: Progress | None,
    ) -> Store:
        native_rate, options = model.native_rate, settings.options
        if sample_rate == native_rate:
            return separate_in_parts(
                model,
                mixture,
                sample_rate=sample_rate,
                stores=stores,
                settings=settings,
                progress=progress,
            )
        at_native_rate = separate_in_parts(
            model,
            MemoryStore(there(read_all(mixture), sample_rate, native_rate, options)),
            sample_rate=native_rate,
            stores=Stores(),
            settings=settings,
            progress=progress,
        )
        # Both lengths are rounded up, so the result is never shorter than the signal.
        stems = back(read_all(at_native_rate), native_rate, sample_rate, options)
        store = MemoryStore(stems[..., : mixture.frames])
        if model.gain_rule == "mixture-consistent":
            apply_gain_rule(model.gain_rule, store, mixture, sample_rate=sample_rate)
        return store

    return separate


def _super_resolved(
    model: SeparationModel,
    mixture: Signal,
    *,
    sample_rate: int,
    stores: Stores,
    settings: SeparationSettings,
    progress: Progress | None,
) -> Store:
    """Separate at a low rate and restore the band above."""
    restored = super_resolve(
        model,
        sample_rate=sample_rate,
        low_rate=settings.options.low_rate,
        network=settings.options.network,
    )
    return separate_in_parts(
        restored,
        mixture,
        sample_rate=sample_rate,
        stores=stores,
        settings=settings,
        progress=progress,
    )


METHODS: dict[MethodName, Method] = {
    "native": separate_in_parts,
    "resample": _resampled(change_with_sinc, change_with_sinc),
    "soxr": _resampled(change_with_soxr, change_with_soxr),
    "noisy-kernel": _resampled(change_with_noisy_kernel, change_with_sinc),
    "post-noise": _resampled(change_with_post_noise, change_with_sinc),
    "direct": _direct,
    "super-resolve": _super_resolved,
}
