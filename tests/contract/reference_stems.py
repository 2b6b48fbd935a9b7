"""Stems of small models whose weights and mixture are formulas: numbers that a change must keep.

    python -m tests.contract.reference_stems

writes them again, for a change that is meant to change stems. Those of published programs, with
which the networks are compared as well, are too large for the repository.
"""

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from sfisep_core.models.contract import SeparationModel
from sfisep_core.models.registry import build_model
from tests.contract.test_models import RATE_BOUND, VARIANTS

FILE = Path(__file__).with_name("reference_stems.npz")
_SECONDS = 0.4
_KEPT = 101  # every how many samples

RATES = {
    variant: (32000,) if family in RATE_BOUND else (8000, 44100)
    for variant, (family, _) in VARIANTS.items()
}


def key(variant: str, sample_rate: int) -> str:
    """Name the stems of a model at a sampling frequency."""
    return f"{variant} at {sample_rate} Hz"


def stems(variant: str, sample_rate: int) -> npt.NDArray[np.float32]:
    """Separate the mixture; some of the samples, shape (source, channel, time)."""
    model = build_model(*VARIANTS[variant]).eval()
    fill(model)
    with torch.no_grad():
        result = model(mixture(sample_rate), sample_rate=sample_rate)
    kept: npt.NDArray[np.float32] = result[0, :, :, ::_KEPT].numpy()
    return kept


def fill(model: SeparationModel) -> None:
    """Replace what is random; of analog filters only phases are."""
    values: dict[str, Tensor] = dict(model.named_parameters()) | dict(model.named_buffers())
    for number, (name, value) in enumerate(sorted(values.items())):
        if not value.is_floating_point() or (".filters." in name and "phase" not in name):
            continue
        spread = _spread(value.numel(), number).view_as(value)  # from -1 to 1
        if "phase" in name:
            spread = torch.pi * spread
        elif value.dim() > 1:
            spread = spread * (2 * value.shape[0] / value.numel()) ** 0.5
        elif name.endswith(("running_var", "weight")):
            spread = 1 + 0.3 * spread
        else:
            spread = 0.2 * spread
        with torch.no_grad():
            value.copy_(spread)


def _spread(count: int, seed: int) -> Tensor:
    """Compute numbers that fill -1 to 1 evenly: multiples of the golden ratio, without integers."""
    steps = np.arange(1, count + 1) * (5**0.5 - 1) / 2 + seed * 2**0.5
    return torch.from_numpy(2 * (steps * (1 + steps % 7) % 1) - 1).float()


def mixture(sample_rate: int) -> Tensor:
    """Compute tones that swell, shape (1, 2, time)."""
    time = np.arange(round(_SECONDS * sample_rate)) / sample_rate
    left = np.sin(2 * np.pi * 220 * time) + 0.5 * np.sin(2 * np.pi * 1337 * time + 1)
    right = np.sin(2 * np.pi * 331 * time) * time / _SECONDS + 0.3 * left
    return torch.from_numpy(0.2 * np.stack([left, right])).float().unsqueeze(0)


def main() -> None:
    """Write the stems."""
    arrays: dict[str, Any] = {
        key(variant, rate): stems(variant, rate) for variant in VARIANTS for rate in RATES[variant]
    }
    np.savez_compressed(FILE, **arrays)


if __name__ == "__main__":
    main()
