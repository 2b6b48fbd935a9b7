"""All that is known about a model of `sfisep models list`."""

from dataclasses import dataclass

from sfisep_core.errors import CheckpointError
from sfisep_core.pretrained.archives import ARCHIVES
from sfisep_core.pretrained.registry import BUNDLED_SHA256, RELEASED, ModelEntry, list_models


@dataclass(frozen=True)
class ModelDetails:
    """All that is known about a model; empty where it is not.

    Attributes:
        entry: Its line of `sfisep models list`.
        address: Where its file is published.
        download_size: Bytes of that file; None where they are not known.
        sha256: Of that file; of a bundled model, of the file that is bundled.
        code_licence: Of the program that it was published with.
        weights_licence: Of the weights, and where that is stated.
        training_data: What it was trained on.
        score: Published, with its definition.
        cost: On a CPU.
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


def show_model(name: str) -> ModelDetails:
    """Tell all that is known about a model that `list_models` lists.

    Raises:
        CheckpointError: It lists no such model, or a bundled file is damaged.
    """
    entry = next((entry for entry in list_models() if entry.name == name), None)
    if entry is None:
        msg = f"model {name}: expected one that `sfisep models list` shows"
        raise CheckpointError(msg)
    if name in ARCHIVES:
        known = ARCHIVES[name]
        return ModelDetails(
            entry=entry,
            address=known.address,
            download_size=known.size,
            sha256=known.sha256,
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
        entry=entry, sha256=BUNDLED_SHA256.get(name, ""), weights_licence=entry.licence
    )
