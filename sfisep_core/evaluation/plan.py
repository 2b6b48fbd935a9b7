"""Resolve a user's request to what is scored: systems, tracks and sampling frequencies."""

import fnmatch
from collections.abc import Sequence
from pathlib import Path

from sfisep_core.data.datasets import StemDataset
from sfisep_core.data.manifest import PreparedTrack
from sfisep_core.errors import ConfigError, DatasetError
from sfisep_core.evaluation.scored_stems import scored_stems
from sfisep_core.evaluation.systems import BASELINES, ESTIMATES, System
from sfisep_core.models.sources import DEFAULT_SOURCES
from sfisep_core.pretrained.identity import ModelIdentity, identify_model
from sfisep_core.separation.methods import METHODS, check_method
from sfisep_core.separation.settings import DEFAULT_OPTIONS, OPTIONS_OF, MethodOptions

SOURCES = DEFAULT_SOURCES


def plan_systems(
    model: ModelIdentity | None,
    kinds: Sequence[str],
    *,
    stems: Sequence[str] = SOURCES,
    estimates: Sequence[Path] = (),
    segment: float | None = None,
    options: MethodOptions = DEFAULT_OPTIONS,
) -> list[System]:
    """Build the list of systems to score.

    Args:
        model: Model of the methods; None if none is used.
        kinds: Names of methods of the model, "mixture" and "oracle-irm", in order.
        stems: Stems of the data set's tracks.
        estimates: Folders with estimates of any separator.
        segment: For methods, see `SeparationSettings`.
        options: Options of methods.

    Returns:
        The systems without duplicates, kinds first.

    Raises:
        CheckpointError: The super-resolution model named in `options` cannot be read.
        ConfigError: A kind is unknown, a method cannot be run here or has no model, there is
            nothing to score, a folder is missing, two folders have the same name, or a model has
            other sources.
    """
    check_kinds(kinds)
    systems = []
    for kind in dict.fromkeys(kinds):
        if kind not in METHODS:
            systems.append(System(kind, kind, kind))
        elif model is None:
            msg = f"baseline {kind!r} is a method of a model: name one with --model"
            raise ConfigError(msg)
        else:
            network = None
            if "low_rate" in OPTIONS_OF.get(kind, ()) and options.network:
                network = identify_model(options.network)
            place = f"{model.label}.{kind}"
            systems.append(System(kind, kind, place, model, segment, options, network))
    for folder in estimates:
        name = folder.resolve().name
        if not folder.is_dir():
            msg = f"estimates {folder}: expected a folder with TRACK/STEM.wav, found none there"
            raise ConfigError(msg)
        systems.append(System(name, ESTIMATES, f"estimates.{name}", estimates=folder))
    names = [system.name for system in systems]
    if len(set(names)) < len(names) or not systems:
        msg = (
            "systems to score: expected one or more of different names, got "
            f"{', '.join(names) or 'none'}: rename a folder of estimates"
        )
        raise ConfigError(msg)
    if model is not None:
        scored_sources(model, stems)
    return systems


def scored_sources(model: ModelIdentity | None, stems: Sequence[str]) -> tuple[str, ...]:
    """Return the stems that are scored: the data set's, unless a model's division is coarser.

    Args:
        model: Model of the methods; None if there are none.
        stems: Of the data set's tracks.

    Raises:
        ConfigError: The model's sources do not match the data set's stems.
    """
    if model is None:
        return tuple(stems)
    return scored_stems(model.sources, stems, where=f"model {model.shown}")


def check_kinds(kinds: Sequence[str]) -> None:
    """Check that all kinds can be scored, independently of model and data.

    Raises:
        ConfigError: A kind is unknown, or a method cannot be run on this machine.
    """
    for kind in kinds:
        if kind not in BASELINES:
            msg = f"baseline {kind!r}: expected one of {', '.join(BASELINES)}"
            raise ConfigError(msg)
        if kind in METHODS:
            check_method(kind)


def select_tracks(dataset: StemDataset, patterns: Sequence[str]) -> list[PreparedTrack]:
    """Select tracks by name.

    Args:
        dataset: The split.
        patterns: Names, with `*` and `?`; none = all tracks.

    Returns:
        The tracks, in the order of the data set.

    Raises:
        DatasetError: A pattern matches no track.
    """
    names = [track.name for track in dataset.tracks]
    selected: set[str] = set()
    for pattern in patterns:
        # An exact name matches itself; brackets are not wildcards.
        matches = {pattern} & set(names) or set(fnmatch.filter(names, pattern.replace("[", "[[]")))
        selected |= matches
        if not matches:
            msg = (
                f"data set {dataset.folder}: expected a track {pattern!r} in this split, found "
                f"{', '.join(names[:5])}{' ...' if len(names) > 5 else ''}"
            )
            raise DatasetError(msg)
    return [track for track in dataset.tracks if not patterns or track.name in selected]


def stored_rate(tracks: Sequence[PreparedTrack]) -> int:
    """Return the rate in Hz at which all tracks are stored.

    Raises:
        ConfigError: They have different rates.
    """
    stored_rates = sorted({track.sample_rate for track in tracks})
    if len(stored_rates) > 1:
        rates = ", ".join(f"{rate} Hz" for rate in stored_rates)
        msg = f"sampling frequency: the tracks are stored at {rates}: choose one with --sr"
        raise ConfigError(msg)
    return stored_rates[0]


def check_rates(
    tracks: Sequence[PreparedTrack], sample_rates: Sequence[int], *, allow_upsampled: bool
) -> None:
    """Check that no rate is above a track's, where references would be empty in part of the band.

    Raises:
        ConfigError: A track is stored at a lower rate, and this is not allowed.
    """
    for sample_rate in sample_rates:
        lower = [track for track in tracks if track.sample_rate < sample_rate]
        if lower and not allow_upsampled:
            msg = (
                f"scoring at {sample_rate} Hz: expected tracks stored at that rate or above, got "
                f"{lower[0].name} at {lower[0].sample_rate} Hz: choose a lower --sr, or pass "
                "--allow-upsampled (the band above is then empty, and ISR, SIR and SAR mean little)"
            )
            raise ConfigError(msg)
