"""What is known about a model of `sfisep models list`, or about a model file."""

import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from sfisep_core.errors import CheckpointError
from sfisep_core.foreign import shown
from sfisep_core.pretrained.address import is_address, shown_name
from sfisep_core.pretrained.archives import ARCHIVES, BUNDLED_ORIGINS
from sfisep_core.pretrained.cache import cached_models
from sfisep_core.pretrained.description import ModelDescription, read_description
from sfisep_core.pretrained.fetch import not_downloaded
from sfisep_core.pretrained.registry import (
    BUNDLED,
    BUNDLED_SHA256,
    RELEASED,
    ModelEntry,
    file_entry,
    list_models,
    no_such_model,
)
from sfisep_core.wording import counted

# Measured scores and costs of bundled models: docs/reference/model-*.md and model-costs.md.
_TEST = "SI-SDR improvement on 20 rendered test windows at 44.1 kHz"
_SCORES = {
    "default": f"{_TEST}: vocals 9.0, drums 8.9, bass 8.5, other 8.2 dB",
    "sfi-conv-tasnet-small": f"{_TEST}: vocals 8.2, drums 8.4, bass 7.6, other 6.1 dB",
}
_COSTS = {
    "default": "0.11 CPU-s for 1 s of stereo at 44.1 kHz, 0.05 at 8 kHz (one thread)",
    "sfi-conv-tasnet-small": "0.3 of what `default` takes at 44.1 kHz, 0.5 at 8 kHz (one thread)",
    "instrumental-unet": "0.4 of what `default` takes at 44.1 kHz, 0.3 at 8 kHz (one thread)",
    "instrumental-conv-tasnet": "0.3 of what `default` takes at 44.1 kHz, 0.5 at 8 kHz (one "
    "thread)",
}


@dataclass(frozen=True)
class ModelDetails:
    """Details of a model; unknown fields are empty, and texts may have several lines.

    Attributes:
        entry: Its entry of `sfisep models list`.
        address: Address of the published file.
        download_size: Size of that file in bytes; None if unknown.
        sha256: Digest of that file, or of the bundled file of a bundled model.
        code_licence: Licence of the program with which it was published.
        weights_licence: Licence of the weights, and where it is stated.
        training_data: Its training data.
        training_steps: Steps of its training, run by run.
        score: Published or measured score, with its definition.
        cost: Cost on a CPU.
        stages: Stages of a cascade, in order: what each model keeps, and its family.
    """

    entry: ModelEntry
    address: str = ""
    download_size: int | None = None
    sha256: str = ""
    code_licence: str = ""
    weights_licence: str = ""
    training_data: str = ""
    training_steps: str = ""
    score: str = ""
    cost: str = ""
    stages: tuple[str, ...] = ()


def show_model(name: str) -> ModelDetails:
    """Return the details of a model of `list_models`, or of a native model file.

    Args:
        name: Name of a model, address of a downloaded one, or path of a file.

    Raises:
        UnknownModelError: There is no such model.
        CheckpointError: The file is no native model file, or the address is not downloaded.
    """
    # As `--model` takes it. Where pathlib raises on a name too long, isfile answers no.
    if name not in BUNDLED and os.path.isfile(name):
        return _described(Path(name))
    entries = {entry.name: entry for entry in list_models()}
    name = shown_name(name)
    entry = entries.get(name)
    if entry is None:
        raise not_downloaded(name) if is_address(name) else no_such_model(name)
    known = ARCHIVES.get(name) or BUNDLED_ORIGINS.get(name)
    if known is not None:
        return ModelDetails(
            entry=entry,
            address=known.address,
            download_size=known.size,
            sha256=BUNDLED_SHA256.get(name) or known.sha256 or "",
            code_licence=known.code_licence,
            weights_licence=known.weights_licence,
            training_data=known.training_data,
            score=known.score,
            cost=known.cost,
        )
    if name in RELEASED:
        released = RELEASED[name]
        address = f"https://huggingface.co/{released.repository}/tree/{released.revision}"
        return ModelDetails(
            entry=entry,
            address=address,
            weights_licence=entry.licence,
            training_data="MUSDB18-HQ, the songs for training",
        )
    if entry.state == "damaged":
        return ModelDetails(entry)
    if name in BUNDLED:
        path = BUNDLED[name]
    else:
        path = next(model.path for model in cached_models() if model.name == name)
    return _described(path, entry)


def _described(path: Path, entry: ModelEntry | None = None) -> ModelDetails:
    """Return what a native model file says; without an entry it is a file of the user."""
    about = read_description(path)
    try:
        return _details(entry or file_entry(path, about), about)
    except (ArithmeticError, AttributeError, LookupError, TypeError, ValueError) as error:
        msg = (
            f"model file {path}: its description of the model is damaged ({shown(str(error))}): "
            "expected a file written by `sfisep train` or `sfisep models`"
        )
        raise CheckpointError(msg) from error


def _details(entry: ModelEntry, about: ModelDescription) -> ModelDetails:
    records = _records(about.training)
    details = ModelDetails(
        entry=entry,
        weights_licence=_lines(record.get("licence") for record in records) or about.licence,
        training_data=_lines(_data_of_parts(records)),
        # Scores of parts are none of the whole.
        training_steps=_steps(records[0].get("steps")) if len(records) == 1 else "",
        score=_validation(records[0]) if len(records) == 1 else "",
        stages=_stages(about),
    )
    if entry.kind != "bundled":
        return details
    names = [part.file.removesuffix(".safetensors") for part in about.parts]
    others = [BUNDLED_ORIGINS[name].training_data for name in names if name in BUNDLED_ORIGINS]
    return replace(
        details,
        sha256=BUNDLED_SHA256[entry.name],
        training_data=_lines([*others, *_known_data(records)]),
        score=_SCORES.get(entry.name, details.score),
        cost=_COSTS.get(entry.name, ""),
    )


def _records(training: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """Return the training record of each model of a model made of models, or the only one."""
    for key in ("stages", "members"):
        parts = training.get(key)
        if isinstance(parts, list):
            return [one for part in parts if isinstance(part, dict) for one in _records(part)]
    return [training]


def _known_data(records: Iterable[Mapping[str, Any]]) -> list[str]:
    return [line for record in records for line in _data(record.get("data"))]


def _data_of_parts(records: Sequence[Mapping[str, Any]]) -> list[str]:
    """Return the lines of all models' data, and which models' files do not say theirs."""
    known = _known_data(records)
    silent = [record for record in records if not _data(record.get("data"))]
    if not known:
        return []
    return known + [
        f"not stated: that of {record.get('description', 'another part')}" for record in silent
    ]


def _lines(texts: Iterable[object]) -> str:
    return "\n".join(dict.fromkeys(str(text) for text in texts if text))


def _data(data: object) -> list[str]:
    """Return the lines of a list of materials, or of the record of a prepared data set."""
    if isinstance(data, list):
        return [str(line) for line in data]
    if not isinstance(data, dict) or not isinstance(splits := data.get("splits"), dict):
        return []
    counts = (f"{split} {counted(one['tracks'], 'track')}" for split, one in splits.items())
    return [f"{data.get('name', 'a data set')} ({', '.join(counts)})"]


def _steps(steps: object) -> str:
    return ", then ".join(map(str, steps)) if isinstance(steps, list) else str(steps or "")


def _validation(record: Mapping[str, Any]) -> str:
    score = record.get("validation_si_sdr_improvement_db")
    how = record.get("validation", "SI-SDR improvement, mean of all stems")
    return f"on validation songs {score} dB: {how}" if score is not None else ""


def _stages(about: ModelDescription) -> tuple[str, ...]:
    """Return what each stage of a cascade keeps, its family, and where its weights are."""
    stages = []
    for number, stage in enumerate(about.config.get("stages", [])):
        files = [part.file for part in about.parts if part.prefix.startswith(f"stages.{number}.")]
        where = " and ".join(files) or "in the file"
        stages.append(f"{' and '.join(stage['keep'])} by {stage['family']} ({where})")
    return tuple(stages)
