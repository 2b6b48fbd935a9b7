"""The models this program knows by name."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from sfisep_core.errors import CheckpointError
from sfisep_core.pretrained.cache import CachedModel, cached_model, cached_models
from sfisep_core.pretrained.native import ModelDescription, read_description

_FOLDER = Path(__file__).parent / "weights"

BUNDLED: dict[str, Path] = {"default": _FOLDER / "default.safetensors"}
BUNDLED_SHA256 = {"default": "976102fc7c8d5054c853a2b38381f134ae1798c80660a680b5d570ff70fb47c8"}

# The first is the one meant by a name without a seed.
_SEEDS = (40, 42, 44, 47)


@dataclass(frozen=True)
class ReleasedWeights:
    """Weights published by the authors of the SFI Conv-TasNet paper.

    Attributes:
        repository: On the Hugging Face hub; it holds one checkpoint per seed.
        revision: Pinned commit.
        seed: Seed of the training run.
        description: One line.
    """

    repository: str
    revision: str
    seed: int
    description: str


def _released() -> dict[str, ReleasedWeights]:
    models = {
        "sfi-conv-tasnet-fd-mgf": (
            "tnkmr/sfi_convtasnet_fd_mgf_musdb18hq",
            "7eb2370fe110fd572fbc5c45f20e2af0cc8cc443",
            "modulated Gaussian filters, frequency-domain design",
        ),
        "sfi-conv-tasnet-td-mgf": (
            "tnkmr/sfi_convtasnet_td_mgf_musdb18hq",
            "0aa6a6be0115e0e4ee9a0803778594b8309347a6",
            "modulated Gaussian filters, time-domain design",
        ),
        "sfi-conv-tasnet-td-mpgtf": (
            "tnkmr/sfi_convtasnet_td_mpgtf_musdb18hq",
            "dc31fc423bd74b5ec01c25bff5436efac836162a",
            "multi-phase gammatone filters, time-domain design",
        ),
    }
    return {
        name if seed == _SEEDS[0] else f"{name}-{seed}": ReleasedWeights(
            repository,
            revision,
            seed,
            f"{description}; MUSDB18-HQ at 32 kHz; seed {seed}"
            if seed == _SEEDS[0]
            else f"the same from seed {seed}",
        )
        for name, (repository, revision, description) in models.items()
        for seed in _SEEDS
    }


RELEASED: dict[str, ReleasedWeights] = _released()
"""By name: MODEL is the run of seed 40, MODEL-42, MODEL-44 and MODEL-47 are the others."""

State = Literal["bundled", "cached", "damaged", "not downloaded"]


@dataclass(frozen=True)
class ModelEntry:
    """One line of `sfisep models list`.

    Attributes:
        name: What `--model` takes.
        kind: Where it comes from.
        state: Where it is; "damaged" where a look at its size tells, without reading the file.
        family: Of an address: empty where its file cannot be read.
        native_rate: Hz; 0 where its file cannot be read.
        sources: In the order of its output.
        licence: Of the weights.
        description: One line.
    """

    name: str
    kind: Literal["bundled", "released", "address"]
    state: State
    family: str
    native_rate: int
    sources: tuple[str, ...]
    licence: str
    description: str


def list_models() -> list[ModelEntry]:
    """List the bundled models, the published ones, and those downloaded from an address.

    Raises:
        CheckpointError: A bundled file is damaged.
    """
    entries = [
        _entry(name, "bundled", "bundled", read_description(path)) for name, path in BUNDLED.items()
    ]
    entries += [
        ModelEntry(
            name=name,
            kind="released",
            state=_state(cached_model(name, name)),
            family="sfi-conv-tasnet",
            native_rate=32000,
            sources=("drums", "bass", "other", "vocals"),
            licence="MIT",
            description=weights.description,
        )
        for name, weights in RELEASED.items()
    ]
    for model in cached_models():
        if model.name not in RELEASED:
            try:
                entries.append(
                    _entry(model.name, "address", _state(model), read_description(model.path))
                )
            except (CheckpointError, TypeError, ValueError, OverflowError):
                entries.append(_entry(model.name, "address", "damaged", None))
    return entries


def _state(model: CachedModel) -> State:
    if model.record() is None:
        return "not downloaded"
    return "cached" if model.looks_sound() else "damaged"


def _entry(
    name: str, kind: Literal["bundled", "address"], state: State, about: ModelDescription | None
) -> ModelEntry:
    config = about.config if about else {}
    return ModelEntry(
        name=name,
        kind=kind,
        state=state,
        family=about.family if about else "",
        native_rate=int(config.get("native_rate", 0)),
        sources=tuple(config.get("sources", ())),
        licence=about.licence if about else "",
        description=str(about.training.get("description", "")) if about else "",
    )
