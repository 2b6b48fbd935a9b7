"""Join two models into a cascade."""

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

import torch

from sfisep_core.errors import CheckpointError, ConfigError
from sfisep_core.foundation.digests import file_sha256
from sfisep_core.models.cascade import Cascade, CascadeConfig, StageConfig
from sfisep_core.models.contract import SeparationModel, rest_of
from sfisep_core.models.sources import in_user_order
from sfisep_core.pretrained.description import ModelDescription, Part, read_description
from sfisep_core.pretrained.model_files import load_model
from sfisep_core.pretrained.tensor_files import read_tensors, write_tensors


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
        description: Description in one line; none = one with the names of the files.

    Raises:
        CheckpointError: A file cannot be read or written.
        ConfigError: The stems are incompatible, the models have no common sampling frequency, or
            linked files are not in the folder of `out`.
    """
    models = [load_model(path) for path in (first, second)]
    kept = tuple(keep) or _all_but_the_rest(models[0], first)
    unknown = [name for name in kept if name not in models[0].sources]
    if unknown:
        msg = (
            f"joined model {out}: to keep {unknown[0]}: expected sources of {first}: "
            f"{', '.join(models[0].sources)}"
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
    said = [read_description(path) for path in (first, second)]
    about = ModelDescription(
        family=Cascade.family,
        config=asdict(config),
        training={
            "description": description or f"{first.stem} for {', '.join(kept)}, then {second.stem}",
            "stages": [one.training for one in said],
        },
        licence="; then ".join(dict.fromkeys(one.licence for one in said if one.licence)),
    )
    prefixes = [f"stages.{number}." for number in range(len(stages))]
    files = list(zip(prefixes, (first, second), said, strict=True))
    if linked:
        parts = tuple(_link(prefix, path, out) for prefix, path, _ in files)
        about = ModelDescription(about.family, about.config, about.training, about.licence, parts)
        write_tensors(out, {}, about)
        return
    tensors = {
        prefix + name: tensor
        for prefix, path, one in files
        for name, tensor in read_tensors(path, one).items()
    }
    write_tensors(out, tensors, about)


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


def _link(prefix: str, path: Path, out: Path) -> Part:
    try:
        if path.resolve().parent != out.resolve().parent:
            msg = f"joined model {out}: linked to {path}: expected it in the folder of the model"
            raise ConfigError(msg)
        if read_description(path).parts:
            msg = f"joined model {out}: {path} is linked itself: join them without links"
            raise ConfigError(msg)
        return Part(prefix, path.name, file_sha256(path))
    except (OSError, ValueError) as error:
        msg = f"joined model {out}: {path} cannot be linked: {error}: choose another name"
        raise CheckpointError(msg) from error
