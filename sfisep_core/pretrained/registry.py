"""The models this program knows by name."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from sfisep_core.pretrained.native import read_description

_FOLDER = Path(__file__).parent / "weights"

BUNDLED: dict[str, Path] = {"default": _FOLDER / "default.safetensors"}


@dataclass(frozen=True)
class ReleasedWeights:
    """Weights published by the authors of the SFI Conv-TasNet paper.

    Attributes:
        repository: On the Hugging Face hub; it holds four seeds (40, 42, 44, 47).
        revision: Pinned commit.
        description: One line.
    """

    repository: str
    revision: str
    description: str


RELEASED: dict[str, ReleasedWeights] = {
    "sfi-conv-tasnet-fd-mgf": ReleasedWeights(
        "tnkmr/sfi_convtasnet_fd_mgf_musdb18hq",
        "7eb2370fe110fd572fbc5c45f20e2af0cc8cc443",
        "modulated Gaussian filters, frequency-domain design; MUSDB18-HQ at 32 kHz",
    ),
    "sfi-conv-tasnet-td-mgf": ReleasedWeights(
        "tnkmr/sfi_convtasnet_td_mgf_musdb18hq",
        "0aa6a6be0115e0e4ee9a0803778594b8309347a6",
        "modulated Gaussian filters, time-domain design; MUSDB18-HQ at 32 kHz",
    ),
    "sfi-conv-tasnet-td-mpgtf": ReleasedWeights(
        "tnkmr/sfi_convtasnet_td_mpgtf_musdb18hq",
        "dc31fc423bd74b5ec01c25bff5436efac836162a",
        "multi-phase gammatone filters, time-domain design; MUSDB18-HQ at 32 kHz",
    ),
}


@dataclass(frozen=True)
class ModelEntry:
    """One line of `sfisep models list`."""

    name: str
    kind: Literal["bundled", "released"]
    family: str
    native_rate: int
    sources: tuple[str, ...]
    licence: str
    description: str


def list_models() -> list[ModelEntry]:
    """List bundled models and the published ones that are known.

    Raises:
        CheckpointError: A bundled file is damaged.
    """
    entries = []
    for name, path in BUNDLED.items():
        about = read_description(path)
        entries.append(
            ModelEntry(
                name=name,
                kind="bundled",
                family=about.family,
                native_rate=int(about.config["native_rate"]),
                sources=tuple(about.config["sources"]),
                licence=about.licence,
                description=str(about.training.get("description", "")),
            )
        )
    for name, weights in RELEASED.items():
        entries.append(
            ModelEntry(
                name=name,
                kind="released",
                family="sfi-conv-tasnet",
                native_rate=32000,
                sources=("drums", "bass", "other", "vocals"),
                licence="MIT",
                description=weights.description,
            )
        )
    return entries
