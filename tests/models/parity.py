"""Numbers of the original programs, which ours must give too."""

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn


class Fixture:
    """A network's settings, weights, inputs and outputs."""

    def __init__(self, shared_dir: Path, name: str) -> None:
        data = np.load(shared_dir / f"fixtures/seeds/{name}.npz", allow_pickle=False)
        self.config: dict[str, Any] = json.loads(str(data["config"]))
        self._arrays: dict[str, npt.NDArray[Any]] = {key: data[key] for key in data.files}

    @property
    def constructor(self) -> dict[str, Any]:
        settings: dict[str, Any] = self.config["constructor"]
        return settings

    def tensor(self, name: str) -> Tensor:
        return torch.from_numpy(self._arrays[name])

    def state(self) -> dict[str, Tensor]:
        """Give the weights by their names there."""
        prefix = "state/"
        return {
            name.removeprefix(prefix): torch.from_numpy(array)
            for name, array in self._arrays.items()
            if name.startswith(prefix)
        }


def load_renamed(network: nn.Module, state: Mapping[str, Tensor], names: Mapping[str, str]) -> None:
    """Load weights; `names` are pairs of patterns and replacements, applied in order."""
    renamed = {}
    for name, value in state.items():
        for pattern, replacement in names.items():
            name = re.sub(pattern, replacement, name)
        renamed[name] = value
    missing, unexpected = network.load_state_dict(renamed, strict=False)
    assert not unexpected
    assert all(name.endswith("num_batches_tracked") for name in missing), missing


def difference(output: Tensor, expected: Tensor) -> float:
    """Give the largest difference relative to the largest value."""
    assert output.shape == expected.shape
    return float((output - expected).abs().max() / expected.abs().max())
