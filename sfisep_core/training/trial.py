"""A first look at a model before a run: can it be made, and does it work where it has to."""

from collections.abc import Mapping
from typing import Any

import torch

from sfisep_core.errors import ConfigError
from sfisep_core.models.contract import SeparationModel
from sfisep_core.models.registry import build_model
from sfisep_core.pretrained.native import first_line

# Hz, lowest and highest rate of training.
RATES = (1000, 384_000)

_SECONDS = 0.1


@torch.no_grad()
def try_model(
    family: str, settings: Mapping[str, Any], rates: Mapping[str, tuple[int, ...]]
) -> tuple[str, ...]:
    """Build a model and separate a tenth of a second of silence at every rate.

    Args:
        family: Name of the model's family.
        settings: Of the family.
        rates: Rates in Hz by the training setting that asks for them.

    Returns:
        Names of the model's sources.

    Raises:
        ConfigError: Settings do not fit each other, or the family does not work at a rate.
    """
    try:
        model = build_model(family, settings).eval()
        native = model.native_rate
        if not RATES[0] <= native <= RATES[1]:
            msg = (
                f"training setting model.native_rate: expected {RATES[0]} to {RATES[1]} Hz, got "
                f"{native}"
            )
            raise ConfigError(msg)
        _separate_silence(model, native)
        tried = {native}
        for name, asked in rates.items():
            for rate in asked:
                if rate not in tried:
                    _try_rate(model, name, rate)
                    tried.add(rate)
        return model.sources
    except (ArithmeticError, MemoryError, RuntimeError, TypeError, ValueError) as error:
        msg = f"training settings model: a {family} cannot be made so: {first_line(error)}"
        raise ConfigError(msg) from error


def _try_rate(model: SeparationModel, name: str, rate: int) -> None:
    try:
        _separate_silence(model, rate)
    except ConfigError as error:
        msg = (
            f"training setting {name}: expected {model.native_rate} Hz alone, the rate of this "
            f"{model.family}, got {rate} Hz; only SFI models can be trained at several rates "
            f"({error})"
        )
        raise ConfigError(msg) from error


def _separate_silence(model: SeparationModel, rate: int) -> None:
    model(torch.zeros(1, 1, round(_SECONDS * rate)), sample_rate=rate)
