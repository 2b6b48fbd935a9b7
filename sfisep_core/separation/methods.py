"""Ways of running a model on a whole signal at any rate, under one call: `separate_signal`."""

from typing import Protocol

from sfisep_core.audio.stores import MemoryStore, Signal, Store, Stores, read_all
from sfisep_core.audio.torchaudio_check import check_torchaudio
from sfisep_core.models.contract import SeparationModel
from sfisep_core.separation.gains import apply_gain_rule
from sfisep_core.separation.native import separate_in_windows
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

# They resample with torchaudio's windowed sinc.
_WITH_SINC = ("resample", "noisy-kernel", "post-noise", "super-resolve", "super-resolve-share")


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
    """Refuse a method that cannot run with the installed packages.

    Args:
        name: One of `METHODS`.

    Raises:
        ConfigError: It needs torchaudio, which cannot be loaded.
    """
    if name in _WITH_SINC:
        check_torchaudio(f"method {name}", instead="choose the method native, soxr or direct")


def separate_signal(
    model: SeparationModel,
    mixture: Signal,
    *,
    sample_rate: int,
    settings: SeparationSettings = DEFAULT_SETTINGS,
    stores: Stores | None = None,
    progress: Progress | None = None,
) -> Store:
    """Separate a signal of any length with the method that the settings name.

    An array is separated as `MemoryStore(array)`, and `read_all` gives the stems as an array.

    The methods that resample hold the signal and its stems in memory, all others a few windows. At
    the model's native rate the methods are the same, but for super-resolution that is told another
    rate to separate at.

    The gain rule is the same for all, at the same place: on what the model was given and what came
    out of it, at the rate of separation. A mixture-consistent model's stems are made to add up once
    more after they were resampled, since the resampled mixture is not the mixture.

    Args:
        model: In evaluation mode, on its device.
        mixture: Shape (channel, time), any length from 0 on.
        sample_rate: Of the mixture, in Hz.
        settings: Method, and how the signal is cut and computed.
        stores: Makes the store of the stems; None = in memory.
        progress: Called with seconds done and seconds in all.

    Returns:
        Stems in the model's order, shape (source, channel, time), of the mixture's length.

    Raises:
        AudioFileError: The disk has no room for the stems.
        CheckpointError: The network of super-resolution cannot be found or read.
        ConfigError: The model cannot work at this rate, or not with this network.
        DeviceError: Not enough memory, even for short segments.
    """
    return METHODS[settings.method](
        model,
        mixture,
        sample_rate=sample_rate,
        stores=Stores() if stores is None else stores,
        settings=settings,
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
    """Give the model the samples as if they were of its native rate."""
    stretch = model.native_rate / sample_rate  # of the recording's seconds a second of the model's

    def report(done: float, total: float) -> None:
        if progress is not None:
            progress(done * stretch, total * stretch)

    return separate_in_windows(
        model,
        mixture,
        sample_rate=model.native_rate,
        stores=stores,
        settings=settings,
        progress=report,
    )


def _resampled(there: RateChange, back: RateChange) -> Method:
    """Make the method that separates at the native rate, between two changes of rate."""

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
            return separate_in_windows(
                model,
                mixture,
                sample_rate=sample_rate,
                stores=stores,
                settings=settings,
                progress=progress,
            )
        at_native_rate = separate_in_windows(
            model,
            MemoryStore(there(read_all(mixture), sample_rate, native_rate, options)),
            sample_rate=native_rate,
            stores=Stores(),
            settings=settings,
            progress=progress,
        )
        # There and back is never shorter than the signal: both lengths are rounded up.
        stems = back(read_all(at_native_rate), native_rate, sample_rate, options)
        store = MemoryStore(stems[..., : mixture.frames])
        if model.gain_rule == "mixture-consistent":
            apply_gain_rule(model.gain_rule, store, mixture, sample_rate=sample_rate)
        return store

    return separate


def _super_resolved(*, shares_only: bool) -> Method:
    """Make the method that separates at a low rate and restores the band above."""

    def separate(
        model: SeparationModel,
        mixture: Signal,
        *,
        sample_rate: int,
        stores: Stores,
        settings: SeparationSettings,
        progress: Progress | None,
    ) -> Store:
        restored = super_resolve(
            model,
            sample_rate=sample_rate,
            low_rate=settings.options.low_rate,
            network=settings.options.network,
            shares_only=shares_only,
        )
        return separate_in_windows(
            restored,
            mixture,
            sample_rate=sample_rate,
            stores=stores,
            settings=settings,
            progress=progress,
        )

    return separate


METHODS: dict[MethodName, Method] = {
    "native": separate_in_windows,
    "resample": _resampled(change_with_sinc, change_with_sinc),
    "soxr": _resampled(change_with_soxr, change_with_soxr),
    "noisy-kernel": _resampled(change_with_noisy_kernel, change_with_sinc),
    "post-noise": _resampled(change_with_post_noise, change_with_sinc),
    "direct": _direct,
    "super-resolve": _super_resolved(shares_only=False),
    "super-resolve-share": _super_resolved(shares_only=True),
}
