"""Make one model of several, a cascade of two or an ensemble, and take such a model apart."""

import os
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import torch

from sfisep_core.errors import CheckpointError, ConfigError
from sfisep_core.foundation.digests import file_sha256
from sfisep_core.models.cascade import Cascade, CascadeConfig, StageConfig
from sfisep_core.models.composite import CompositeModel
from sfisep_core.models.contract import SeparationModel, rest_of
from sfisep_core.models.ensemble import Ensemble, EnsembleConfig, MemberConfig
from sfisep_core.models.sources import in_user_order
from sfisep_core.pretrained.description import ModelDescription, Part, read_description
from sfisep_core.pretrained.model_files import check_out, load_model
from sfisep_core.pretrained.tensor_files import read_tensors, write_tensors

_LICENCE = "licence"  # of a part, in its training record
# By family: prefix of the names of the weights of a model made of models.
_PREFIXES = {kind.family: kind.modules_name for kind in (Cascade, Ensemble)}


def join_models(
    first: Path,
    second: Path,
    out: Path,
    *,
    keep: Sequence[str] = (),
    linked: bool = False,
    description: str = "",
) -> None:
    """Build a model whose second stage separates the residual of the first one.

    The second stage's sources become stems, except those that the first keeps. Weights are copied
    in their stored form.

    Args:
        first: A native model file; it may be a cascade itself.
        second: Another model file.
        out: Model file to write (.safetensors).
        keep: Sources of the first that become stems; none = all but the residual source.
        linked: Keep the weights in the two files, which must be in the folder of `out`.
        description: Description in one line; none = one with the names of the models.

    Raises:
        CheckpointError: A file cannot be read or written.
        ConfigError: The stems are incompatible, the first keeps everything, the models have no
            common sampling frequency, linked files are not in the folder of `out`, or `out` is one
            of the files or no `.safetensors`.
    """
    _check_out(out, (first, second))
    models = [load_model(path) for path in (first, second)]
    kept = tuple(keep) or _all_but_the_rest(models[0], first)
    unknown = [name for name in kept if name not in models[0].sources]
    if unknown:
        msg = (
            f"joined model {out}: to keep {unknown[0]}: expected sources of {first}: "
            f"{', '.join(models[0].sources)}"
        )
        raise ConfigError(msg)
    if rest_of(models[0].sources) in kept and set(kept) == set(models[0].sources):
        msg = (
            f"joined model {out}: {first} would keep all it has, {', '.join(kept)}, and leave "
            f"nothing for {second}: keep less"
        )
        raise ConfigError(msg)
    others = tuple(name for name in models[1].sources if name not in kept)
    if not others:
        msg = (
            f"joined model {out}: expected a source of {second} that {first} does not keep, got "
            f"{', '.join(models[1].sources)}: keep less of the first"
        )
        raise ConfigError(msg)
    stages = tuple(
        StageConfig(model.family, model.config_dict(), names)
        for model, names in zip(models, (kept, others), strict=True)
    )
    config = CascadeConfig(
        sources=in_user_order([*kept, *others]),
        native_rate=_common_rate(models, out),
        stages=stages,
    )
    said = (
        description or f"{_called(first)} for {', '.join(kept)}, then {_called(second, last=True)}"
    )
    about = ModelDescription(Cascade.family, asdict(config), {"description": said})
    _write(
        out, about, [first, second], prefix=Cascade.modules_name, joined="; then ", linked=linked
    )


def average_models(
    files: Sequence[Path],
    out: Path,
    *,
    weights: Sequence[float] = (),
    linked: bool = False,
    description: str = "",
) -> None:
    """Build a model whose stems are the weighted means of those of several models.

    It has the stems that all of them have. Weights are copied in their stored form.

    Args:
        files: Native model files.
        out: Model file to write (.safetensors).
        weights: The share of each model, relative to the others; none = equal shares.
        linked: Keep the weights in the files, which must be in the folder of `out`.
        description: Description in one line; none = one with the names of the models.

    Raises:
        CheckpointError: A file cannot be read or written.
        ConfigError: The models have no common stem or sampling frequency, or other stems without a
            common one for the rest; the numbers of weights and of models differ; linked files are
            not in the folder of `out`; or `out` is one of the files or no `.safetensors`.
    """
    _check_out(out, files)
    models = [load_model(path) for path in files]
    shares = list(weights) or [1.0] * len(models)
    if len(shares) != len(models):
        msg = f"averaged model {out}: expected {len(models)} weights, got {len(shares)}"
        raise ConfigError(msg)
    common = set.intersection(*(set(model.sources) for model in models))
    if not common:
        each = "; ".join(", ".join(model.sources) for model in models)
        msg = f"averaged model {out}: expected models with a common stem, got {each}"
        raise ConfigError(msg)
    config = EnsembleConfig(
        sources=in_user_order(sorted(common)),
        native_rate=_common_rate(models, out),
        members=tuple(
            MemberConfig(model.family, model.config_dict(), share)
            for model, share in zip(models, shares, strict=True)
        ),
    )
    Ensemble(config, models)  # checks that they fit together
    said = description or f"the mean of {' and '.join(map(_called, files))}"
    about = ModelDescription(Ensemble.family, asdict(config), {"description": said})
    _write(out, about, files, prefix=Ensemble.modules_name, joined="; ", linked=linked)


def split_model(path: Path, folder: Path) -> list[Path]:
    """Write each model of a cascade or an ensemble to a file of its own.

    Weights are copied in their stored form.

    Args:
        path: A native model file.
        folder: Folder for the files, which are named after `path` with a number from 1 on.

    Returns:
        The files, in the order in which the cascade runs the models, or of the ensemble's settings.

    Raises:
        CheckpointError: A file cannot be read or written.
        ConfigError: The model is neither a cascade nor an ensemble, or a file exists already.
    """
    about = read_description(path)
    if about.family not in _PREFIXES:
        msg = (
            f"model file {path}: to be split: expected a model made of models, of family "
            f"{' or '.join(_PREFIXES)}, got one of family {about.family}: it is one model already"
        )
        raise ConfigError(msg)
    model = load_model(path)
    assert isinstance(model, CompositeModel)
    count = len(model.models)
    files = [folder / f"{path.stem}-{number}.safetensors" for number in range(1, count + 1)]
    for file in files:
        if os.path.lexists(file):
            msg = f"model file {path}: its part {file} exists already: choose another folder"
            raise ConfigError(msg)
    tensors, prefix = read_tensors(path, about), _PREFIXES[about.family]
    for number, (part, file) in enumerate(zip(model.models, files, strict=True)):
        start = f"{prefix}.{number}."
        own = {name[len(start) :]: one for name, one in tensors.items() if name.startswith(start)}
        record, licence = _record_of_part(about, prefix, number, count)
        description = ModelDescription(part.family, part.config_dict(), record, licence)
        write_tensors(file, own, description)
    return files


def _record_of_part(
    about: ModelDescription, prefix: str, number: int, count: int
) -> tuple[dict[str, Any], str]:
    """Return the training record and the licence of one part.

    Joined models say of each part what its file said; what was trained as a whole says it once.
    """
    records = about.training.get(prefix)
    if not isinstance(records, list) or len(records) != count:
        return about.training, about.licence
    record = dict(records[number]) if isinstance(records[number], dict) else {}
    return record, str(record.pop(_LICENCE, about.licence))


def _write(
    out: Path,
    about: ModelDescription,
    files: Sequence[Path],
    *,
    prefix: str,
    joined: str,
    linked: bool,
) -> None:
    """Write a model of several files, with what these say of training and licences."""
    said = [read_description(path) for path in files]
    about = replace(
        about,
        training={
            **about.training,
            prefix: [{**one.training, _LICENCE: one.licence} for one in said],
        },
        licence=joined.join(dict.fromkeys(one.licence for one in said if one.licence)),
    )
    places = [f"{prefix}.{number}." for number in range(len(files))]
    if linked:
        parts = [
            part
            for place, path in zip(places, files, strict=True)
            for part in _link(place, path, out)
        ]
        write_tensors(out, {}, replace(about, parts=tuple(parts)))
        return
    tensors = {
        place + name: tensor
        for place, path, one in zip(places, files, said, strict=True)
        for name, tensor in read_tensors(path, one).items()
    }
    write_tensors(out, tensors, about)


def _check_out(out: Path, files: Sequence[Path]) -> None:
    """Check that `out` is no model of which it is to be made, nor a part of one."""
    parts = [path.parent / part.file for path in files for part in read_description(path).parts]
    check_out(out, [*files, *parts])


def _called(path: Path, *, last: bool = False) -> str:
    """Return the description of a model made of models, which usually names them, or the name."""
    about = read_description(path)
    said = about.training.get("description")
    if about.family not in _PREFIXES or not isinstance(said, str):
        return path.stem
    return said if last else f"({said})"


def _all_but_the_rest(model: SeparationModel, path: Path) -> tuple[str, ...]:
    rest = rest_of(model.sources)
    if rest is None or len(model.sources) < 2:
        msg = (
            f"model {path}: expected a source for the rest beside others, got "
            f"{', '.join(model.sources)}: name what is to be kept of it"
        )
        raise ConfigError(msg)
    return tuple(name for name in model.sources if name != rest)


def _common_rate(models: Sequence[SeparationModel], out: Path) -> int:
    """Return the highest native rate at which all models work."""
    rates = sorted({model.native_rate for model in models}, reverse=True)
    for rate in rates:
        try:
            for model in models:
                model(torch.zeros(1, 1, 0), sample_rate=rate)
        except ConfigError:
            continue
        return rate
    msg = f"joined model {out}: the two work at no common rate: {' and '.join(map(str, rates))} Hz"
    raise ConfigError(msg)


def _link(prefix: str, path: Path, out: Path) -> tuple[Part, ...]:
    """Return the parts of a file that is linked itself, else the file as a part."""
    try:
        if path.resolve().parent != out.resolve().parent:
            msg = f"joined model {out}: linked to {path}: expected it in the folder of the model"
            raise ConfigError(msg)
        parts = read_description(path).parts
        if parts:
            return tuple(Part(prefix + part.prefix, part.file, part.sha256) for part in parts)
        return (Part(prefix, path.name, file_sha256(path)),)
    except (OSError, ValueError) as error:
        msg = f"joined model {out}: {path} cannot be linked: {error}: choose another name"
        raise CheckpointError(msg) from error
