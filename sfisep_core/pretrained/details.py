"""Details of a model of `sfisep models list`."""

from dataclasses import dataclass
from pathlib import Path

from sfisep_core.errors import CheckpointError
from sfisep_core.pretrained.archives import ARCHIVES, BUNDLED_ORIGINS
from sfisep_core.pretrained.description import read_description
from sfisep_core.pretrained.registry import (
    BUNDLED,
    BUNDLED_SHA256,
    RELEASED,
    ModelEntry,
    list_models,
    near_names,
)


@dataclass(frozen=True)
class ModelDetails:
    """Details of a model; unknown fields are empty.

    Attributes:
        entry: Its entry of `sfisep models list`.
        address: Address of the published file.
        download_size: Size of that file in bytes; None if unknown.
        sha256: Digest of that file, or of the bundled file of a bundled model.
        code_licence: Licence of the program with which it was published.
        weights_licence: Licence of the weights, and where it is stated.
        training_data: Its training data.
        score: Published score, with its definition.
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
    score: str = ""
    cost: str = ""
    stages: tuple[str, ...] = ()


def show_model(name: str) -> ModelDetails:
    """Return the details of a model of `list_models`.

    Raises:
        CheckpointError: The model is not listed, or a bundled file is damaged.
    """
    entries = {entry.name: entry for entry in list_models()}
    entry = entries.get(name)
    if entry is None:
        near = near_names(name, entries)
        msg = f"model {name or repr(name)}: expected one that `sfisep models list` shows{near}"
        raise CheckpointError(msg)
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
    return ModelDetails(
        entry=entry,
        sha256=BUNDLED_SHA256.get(name, ""),
        weights_licence=entry.licence,
        stages=show_stages(BUNDLED[name]) if name in BUNDLED else (),
    )


def show_stages(path: Path) -> tuple[str, ...]:
    """Return what each stage of a cascade keeps, its family, and where its weights are.

    Args:
        path: A native model file.

    Raises:
        CheckpointError: It is none.
    """
    about = read_description(path)
    stages = []
    for number, stage in enumerate(about.config.get("stages", [])):
        files = [part.file for part in about.parts if part.prefix.startswith(f"stages.{number}.")]
        where = " and ".join(files) or "in the file"
        stages.append(f"{' and '.join(stage['keep'])} by {stage['family']} ({where})")
    return tuple(stages)
