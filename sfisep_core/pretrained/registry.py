"""The models this program knows by name."""

import os
from collections.abc import Iterable
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import Literal

from sfisep_core.errors import CheckpointError, ConfigError, UnknownModelError
from sfisep_core.models.sources import check_sources, in_user_order
from sfisep_core.pretrained.address import address_key, is_address
from sfisep_core.pretrained.archives import ARCHIVES
from sfisep_core.pretrained.cache import CachedModel, cached_model, cached_models
from sfisep_core.pretrained.description import ModelDescription, read_description
from sfisep_core.pretrained.file_kinds import is_checkpoint, model_file_kind
from sfisep_core.pretrained.torch_layouts import PUBLISHED_SOURCES, torch_layout

_FOLDER = Path(__file__).parent / "weights"

BUNDLED_SHA256 = {
    "default": "1f1a76d7656be88499ed15dcfcfcf457908266ae5805be5027e3b32914352872",
    "spleeter-vocals": "6d38ac2ea6e6d9f302826494e14bcc71a735487a050ab590193d4b2b51c31633",
    "instrumental-unet": "a1061a2493ab92b6a74a965c96471d15606e2df0c6ed90afd4f76c24055d2027",
    "instrumental-conv-tasnet": "56366bd1a1f968f63e341cd2aebc3888283f40b540d01a3334274e056d111f43",
    "sfi-conv-tasnet-small": "73f30b866f9b62340ee5cbf3b30116524302c8533b6362938ce6f1f58fa9f12c",
}
BUNDLED: dict[str, Path] = {name: _FOLDER / f"{name}.safetensors" for name in BUNDLED_SHA256}
"""`default` is made of the next three, whose files hold its weights."""

# The first is the one meant by a name without a seed.
_SEEDS = (40, 42, 44, 47)
_RELEASED_SOURCES = PUBLISHED_SOURCES["sfi-conv-tasnet"]


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

State = Literal["bundled", "cached", "damaged", "not downloaded", "on disk"]


@dataclass(frozen=True)
class ModelEntry:
    """One line of `sfisep models list`.

    Attributes:
        name: What `--model` takes.
        kind: Where it comes from.
        state: Where it is, "on disk" for a file of the user; "damaged" where its header
            or, of a downloaded one, its size tells, without reading the weights.
        family: Of an address: empty where its file cannot be read.
        native_rate: Hz; 0 where its file cannot be read.
        sources: In the order of its output.
        licence: Of the weights.
        description: One line.
        size: Bytes of its file, and of others that hold weights of it; 0 where it is not there.
    """

    name: str
    kind: Literal["bundled", "released", "address", "file"]
    state: State
    family: str
    native_rate: int
    sources: tuple[str, ...]
    licence: str
    description: str
    size: int = 0


def list_models() -> list[ModelEntry]:
    """List the bundled models, the published ones, and those downloaded from an address."""
    entries = [_readable_entry(name, "bundled", "bundled", path) for name, path in BUNDLED.items()]
    entries += [
        ModelEntry(
            name=name,
            kind="released",
            state=_state(cached_model(name, name)),
            family="sfi-conv-tasnet",
            native_rate=32000,
            sources=_RELEASED_SOURCES,
            licence="MIT",
            description=weights.description,
            size=_size(cached_model(name, name).path),
        )
        for name, weights in RELEASED.items()
    ]
    entries += [
        ModelEntry(
            name=name,
            kind="released",
            state=_state(cached_model(name, name)),
            family=weights.family,
            native_rate=weights.native_rate,
            sources=weights.sources,
            licence=weights.weights_licence.partition(":")[0],
            description=weights.description,
            size=_size(cached_model(name, name).path),
        )
        for name, weights in ARCHIVES.items()
    ]
    for model in cached_models():
        if not any(model.name in names for names in (BUNDLED, RELEASED, ARCHIVES)):
            entries.append(_readable_entry(model.name, "address", _state(model), model.path))
    return entries


def file_entry(path: Path, about: ModelDescription) -> ModelEntry:
    """Describe a model file of the user as the models of `list_models` are described."""
    return _entry(str(path), "file", "on disk", about, path)


def known_sources(name: str) -> tuple[str, ...] | None:
    """Give the sources of a model without loading or downloading it.

    Args:
        name: As `resolve_model` takes it.

    Returns:
        The names in the order in which users get them; None where only the whole model tells.

    Raises:
        CheckpointError: There is no such model, its file cannot be read, or the name of a source
            can be that of no file.
    """
    if name in BUNDLED:
        path = BUNDLED[name]
    elif os.path.isfile(name):  # where pathlib raises on a name too long, it answers no
        path = Path(name)
    elif name in RELEASED:
        return in_user_order(_RELEASED_SOURCES)
    elif name in ARCHIVES:
        return in_user_order(ARCHIVES[name].sources)
    elif os.path.isdir(name) and is_checkpoint(Path(name)):
        return None
    elif is_address(name):
        path = cached_model(name, address_key(name)).path
        if not path.is_file():
            return None
    else:
        raise no_such_model(name)
    kind = model_file_kind(path)
    if kind == "torch":  # a published checkpoint
        return in_user_order(PUBLISHED_SOURCES[torch_layout(path)])
    if kind == "tensorflow":
        return None
    sources = read_description(path).config.get("sources")
    if not isinstance(sources, list):  # of the model inside another, or left to the default
        return None
    try:
        check_sources(tuple(map(str, sources)))
    except ConfigError as error:
        msg = f"model file {path}: {error}"
        raise CheckpointError(msg) from error
    return in_user_order([str(name) for name in sources])


def no_such_model(name: str) -> UnknownModelError:
    """Describe what `--model` can be instead of a name that is none."""
    if os.path.isdir(name):
        files = sorted(Path(name).glob("*.safetensors"))
        if files:
            advice = f"name the model file in it: {' or '.join(map(str, files))}"
        else:
            advice = "name a model file (.safetensors): there is none in it"
        return UnknownModelError(f"model {name}: expected a file, found a folder: {advice}")
    return UnknownModelError(
        f"model {name or repr(name)}: expected a bundled model ({', '.join(BUNDLED)}), a released "
        "one (`sfisep models list` shows them), an address (https://...) or the path of a model "
        f"file; found no such file{near_names(name, [*BUNDLED, *RELEASED, *ARCHIVES])}"
    )


def near_names(name: str, names: Iterable[str]) -> str:
    """Return an addition to a message about an unknown model: names that differ by a typo."""
    near = get_close_matches(name, names)
    return f"; did you mean {' or '.join(near)}?" if near else ""


def _state(model: CachedModel) -> State:
    if model.record() is None:
        return "not downloaded"
    return "cached" if model.looks_sound() else "damaged"


def _readable_entry(
    name: str, kind: Literal["bundled", "address"], state: State, path: Path
) -> ModelEntry:
    """Return the entry of a file, as a damaged one if it or a part of it cannot be read."""
    try:
        about = read_description(path)
        for part in about.parts:
            read_description(path.parent / part.file)
        return _entry(name, kind, state, about, path)
    except (CheckpointError, TypeError, ValueError, OverflowError):
        return _entry(name, kind, "damaged", None, path)


def _entry(
    name: str,
    kind: Literal["bundled", "address", "file"],
    state: State,
    about: ModelDescription | None,
    path: Path,
) -> ModelEntry:
    config, parts = (about.config, about.parts) if about else ({}, ())
    return ModelEntry(
        name=name,
        kind=kind,
        state=state,
        family=about.family if about else "",
        native_rate=int(config.get("native_rate", 0)),
        sources=_sources(config.get("sources", [])),
        licence=about.licence if about else "",
        description=str(about.training.get("description", "")) if about else "",
        size=_size(path) + sum(_size(path.parent / part.file) for part in parts),
    )


def _sources(sources: object) -> tuple[str, ...]:
    """Check the sources in a file.

    Raises:
        TypeError: They are no list of texts.
    """
    if not isinstance(sources, list) or not all(isinstance(name, str) for name in sources):
        msg = "its sources are no list of names"
        raise TypeError(msg)
    return tuple(sources)


def _size(path: Path) -> int:
    return path.stat().st_size if path.is_file() else 0
