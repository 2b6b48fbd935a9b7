"""Systems that can be scored: methods of a model, baselines without one, estimates in files."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, cast

import numpy as np

from sfisep_core.audio.files import read_audio
from sfisep_core.audio.resample import resample
from sfisep_core.audio.stores import MemoryStore, read_all
from sfisep_core.devices import find_device
from sfisep_core.errors import CheckpointError, ConfigError, DatasetError
from sfisep_core.evaluation.oracle import ideal_ratio_mask
from sfisep_core.evaluation.scored_stems import as_scored
from sfisep_core.evaluation.signals import TrackSignals
from sfisep_core.evaluation.study import Samples
from sfisep_core.foreign import path_below
from sfisep_core.foundation.digests import file_sha256
from sfisep_core.models.contract import SeparationModel
from sfisep_core.pretrained.identity import ModelIdentity, check_unchanged, load_identified
from sfisep_core.separation.methods import METHODS, separate_signal
from sfisep_core.separation.permutation import are_unnamed, match_estimates
from sfisep_core.separation.settings import (
    DEFAULT_OPTIONS,
    OPTIONS_OF,
    MethodName,
    MethodOptions,
    SeparationSettings,
)
from sfisep_core.separation.super_resolution import super_resolve

MIXTURE = "mixture"
ORACLE = "oracle-irm"
ESTIMATES = "estimates"
BASELINES = (*METHODS, MIXTURE, ORACLE)

_SUFFIXES = (".wav", ".flac", ".ogg", ".opus", ".mp3", ".aiff", ".aif")
# The settings that affect a method's result.
_NOISE_LEVELS = {"noisy-kernel": "kernel_noise_level", "post-noise": "post_noise_level"}


@dataclass(frozen=True)
class System:
    """One thing to score.

    Attributes:
        name: Name in files and tables of one model.
        kind: A method's name, "mixture", "oracle-irm" or "estimates".
        folder: Name of the folder of its scores.
        model: Model of a method.
        segment: Methods: seconds of a segment, see `SeparationSettings`.
        options: Methods: options of the method.
        network: Super-resolution: the model whose network is used, named in `options`.
        estimates: "estimates": the folder with TRACK/STEM.* or SPLIT/TRACK/STEM.*
    """

    name: str
    kind: str
    folder: str
    model: ModelIdentity | None = None
    segment: float | None = None
    options: MethodOptions = DEFAULT_OPTIONS
    network: ModelIdentity | None = None
    estimates: Path | None = None

    @property
    def label(self) -> str:
        """Name together with that of its model."""
        return self.name if self.model is None else f"{self.model.label} {self.name}"

    def settings(
        self, split: str, track: str, sources: Sequence[str], *, allow_upsampled: bool
    ) -> dict[str, Any]:
        """Return what its estimates of a track depend on, for JSON.

        Raises:
            ConfigError: A source has several files.
            DatasetError: The folder cannot be read.
        """
        described: dict[str, Any] = {"kind": self.kind}
        if self.model is not None:
            described |= {"model": self.model.sha256, "segment": self.segment}
            if self.kind in _NOISE_LEVELS:
                level = getattr(self.options, _NOISE_LEVELS[self.kind])
                described |= {"noise_level": level, "seed": self.options.seed}
            if "low_rate" in OPTIONS_OF.get(self.kind, ()):
                described |= {"low_rate": self.options.low_rate}
                described |= {"network": self.network.sha256 if self.network else ""}
        if self.estimates is not None:
            files = find_estimates(self.estimates, split, track, sources)
            try:
                described["files"] = {name: file_sha256(file) for name, file in files.items()}
            except OSError as error:
                raise _unreadable(self.estimates, error) from error
            described["allow_upsampled"] = allow_upsampled
        return described


@lru_cache(maxsize=1)
def load(model: ModelIdentity, device: str) -> SeparationModel:
    """Load a model for separation; the last one is cached.

    Raises:
        CheckpointError: It is missing, cannot be read, or has changed.
        ConfigError: The device is not available.
    """
    return load_identified(model).to(find_device(device)).eval().for_inference()


def check_systems(systems: Iterable[System], device: str) -> None:
    """Load the models of systems, so that errors are reported before the first track.

    Raises:
        CheckpointError: A model cannot be read, or has changed.
        ConfigError: The device is not available, or a network does not match its model.
    """
    for system in systems:
        if system.model is None:
            continue
        model = load(system.model, device)
        if "network" in OPTIONS_OF.get(system.kind, ()) and system.network is not None:
            super_resolve(
                model,
                sample_rate=0,
                low_rate=system.options.low_rate,
                network=system.options.network,
            )


def make_estimates(
    system: System, signals: TrackSignals, *, device: str, allow_upsampled: bool
) -> dict[str, Samples]:
    """Compute or read the estimates of a track.

    Estimates of unnamed sources get the names of the references that they match best.

    Args:
        system: The system.
        signals: The track.
        device: Device of models.
        allow_upsampled: Whether files may have a lower rate than that of scoring.

    Returns:
        Estimates by source, each with the references' channels. Estimates from files keep their
        length, and sources without a file are missing.

    Raises:
        ConfigError: The model cannot work at this rate, files do not match, or some unnamed sources
            have no file.
        CheckpointError: The model's output contains NaN or Inf, or its file was replaced.
        DatasetError: There is no estimate of this track.
        AudioFileError: A file cannot be read.
    """
    estimates = _make_estimates(system, signals, device=device, allow_upsampled=allow_upsampled)
    return _in_order(estimates, signals) if are_unnamed(signals.sources) else estimates


def _make_estimates(
    system: System, signals: TrackSignals, *, device: str, allow_upsampled: bool
) -> dict[str, Samples]:
    if system.kind == MIXTURE:
        return dict.fromkeys(signals.sources, signals.mixture)
    if system.kind == ORACLE:
        stems = ideal_ratio_mask(
            signals.references, signals.mixture, sample_rate=signals.sample_rate
        )
        return dict(zip(signals.sources, stems, strict=True))
    if system.kind == ESTIMATES:
        return _read_estimates(system, signals, allow_upsampled=allow_upsampled)
    assert system.model is not None
    model = load(system.model, device)
    try:
        settings = SeparationSettings(
            cast(MethodName, system.kind), segment=system.segment, options=system.options
        )
        stems = read_all(
            separate_signal(
                model,
                MemoryStore(signals.mixture),
                sample_rate=signals.sample_rate,
                settings=settings,
            )
        )
    except np.linalg.LinAlgError as error:  # from the gain fit of non-finite stems
        msg = f"model {system.model.shown}: expected finite stems of {signals.name}, got NaN or Inf"
        raise CheckpointError(msg) from error
    if system.network is not None:
        check_unchanged(system.network)
    return as_scored(dict(zip(model.sources, stems, strict=True)), signals.sources)


def _in_order(estimates: Mapping[str, Samples], signals: TrackSignals) -> dict[str, Samples]:
    missing = [source for source in signals.sources if source not in estimates]
    if missing:
        msg = (
            f"estimates of {signals.name}: expected those of all sources, which have no names; "
            f"found none of {', '.join(missing)}"
        )
        raise ConfigError(msg)
    length = signals.references.shape[-1]
    fitted = np.zeros_like(signals.references)
    for row, source in zip(fitted, signals.sources, strict=True):
        estimate = estimates[source][:, :length]
        row[:, : estimate.shape[1]] = estimate
    order = match_estimates(fitted, signals.references)
    return {
        source: estimates[signals.sources[number]]
        for source, number in zip(signals.sources, order, strict=True)
    }


def find_estimates(folder: Path, split: str, track: str, sources: Sequence[str]) -> dict[str, Path]:
    """Find the files of a track's estimates, by source.

    Raises:
        ConfigError: A source has several files.
        DatasetError: The folder cannot be read, or a name leads out of it.
    """
    file_of: dict[str, Path] = {}
    for place in (path_below(folder, track), path_below(folder, split, track)):
        for source in sources:
            files = [path_below(place, f"{source}{suffix}") for suffix in _SUFFIXES]
            try:
                files = [file for file in files if file.is_file()]
            except OSError as error:
                raise _unreadable(place, error) from error
            if len(files) > 1 or (files and source in file_of):
                names = ", ".join(
                    map(str, [*files, *([file_of[source]] if source in file_of else [])])
                )
                msg = f"estimates of {track}: expected one file for {source}, found {names}"
                raise ConfigError(msg)
            if files:
                file_of[source] = files[0]
    return file_of


def _unreadable(folder: Path, error: OSError) -> DatasetError:
    msg = f"estimates {folder}: expected a folder that can be read, got {error.strerror}"
    return DatasetError(msg)


def _read_estimates(
    system: System, signals: TrackSignals, *, allow_upsampled: bool
) -> dict[str, Samples]:
    assert system.estimates is not None
    files = find_estimates(system.estimates, signals.split, signals.name, signals.sources)
    if not files:
        msg = (
            f"estimates of {signals.name}: expected {system.estimates / signals.name}/STEM.wav (or "
            f".flac, .mp3, ...) for STEM of {', '.join(signals.sources)}; found none: separate "
            "this track, too, or leave it out with --track"
        )
        raise DatasetError(msg)
    estimates: dict[str, Samples] = {}
    for source, file in files.items():
        audio, file_rate = read_audio(file)
        if file_rate < signals.sample_rate and not allow_upsampled:
            msg = (
                f"{file}: expected {signals.sample_rate} Hz or more, got {file_rate} Hz: choose a "
                "lower --sr, or pass --allow-upsampled"
            )
            raise ConfigError(msg)
        audio = resample(audio, orig_rate=file_rate, target_rate=signals.sample_rate)
        channels = signals.mixture.shape[0]
        if audio.shape[0] not in (1, channels):
            msg = f"{file}: expected {channels} channels as its track has, got {audio.shape[0]}"
            raise ConfigError(msg)
        estimates[source] = np.broadcast_to(audio, (channels, audio.shape[1]))
    return estimates
