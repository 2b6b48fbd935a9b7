"""Check before a run that a model can be built and works at all required rates."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch

from sfisep_core.audio.torchaudio_check import check_torchaudio
from sfisep_core.errors import ConfigError
from sfisep_core.models.contract import SeparationModel
from sfisep_core.models.registry import build_model
from sfisep_core.pretrained.declared_size import Unfilled, watch_building
from sfisep_core.pretrained.model_files import first_line

# Hz, lowest and highest rate of training.
RATES = (1000, 384_000)

_SECONDS = 0.1
# 4 GB in float32, four times that with gradients and moments.
_MOST_WEIGHTS = 1_000_000_000
# Exceptions of PyTorch and layers for invalid sizes.
_FAILURES = (ArithmeticError, LookupError, MemoryError, RuntimeError, TypeError, ValueError)


@torch.no_grad()
def try_model(
    family: str, settings: Mapping[str, Any], rates: Mapping[str, tuple[int, ...]]
) -> tuple[str, ...]:
    """Build a model and separate a tenth of a second of silence at every rate.

    Args:
        family: Name of the model's family.
        settings: Settings of the family.
        rates: Rates in Hz by the training setting that requires them.

    Returns:
        Names of the model's sources.

    Raises:
        ConfigError: Settings contradict each other, or the family does not work at a rate.
    """
    try:
        _check_size(family, settings)
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
    except (
        ArithmeticError,
        LookupError,
        MemoryError,
        RuntimeError,
        TypeError,
        ValueError,
    ) as error:
        msg = f"training settings model: a {family} cannot be made so: {first_line(error)}"
        raise ConfigError(msg) from error


def _check_size(family: str, settings: Mapping[str, Any]) -> None:
    """Check the number of weights by building the model without filling them.

    Memory that is not filled is not committed. (PyTorch's meta device would import SymPy.)
    """
    count = 0

    def add(values: int) -> None:
        nonlocal count
        count += values
        if count > _MOST_WEIGHTS:
            msg = (
                f"training settings model: expected a {family} of at most {_MOST_WEIGHTS} weights, "
                "got more: choose smaller sizes"
            )
            raise ConfigError(msg)

    with watch_building(add), Unfilled():
        build_model(family, settings)


def _try_rate(model: SeparationModel, name: str, rate: int) -> None:
    try:
        _separate_silence(model, rate)
    except ConfigError as error:
        msg = (
            f"training setting {name}: expected {model.native_rate} Hz alone, the rate of this "
            f"{model.family}, got {rate} Hz; families with learned filters train at one rate"
        )
        raise ConfigError(msg) from error


def _separate_silence(model: SeparationModel, rate: int) -> None:
    stems = model(torch.zeros(1, 1, round(_SECONDS * rate)), sample_rate=rate)
    if not stems.isfinite().all():
        msg = f"training settings model: a {model.family} of this form makes no numbers of silence"
        raise ConfigError(msg)


def check_model(model: SeparationModel, sample_rates: Sequence[int], stems: Sequence[str]) -> None:
    """Check that a model can learn.

    Args:
        model: The model to train.
        sample_rates: Rates of training in Hz.
        stems: Stems of the data set, which make up the mixture.

    Raises:
        ConfigError: It learns nothing at a rate, its stems must add up to a mixture that contains
            further stems, or its losses need torchaudio, which cannot be loaded.
    """
    if model.above_rate >= min(sample_rates):
        msg = (
            f"training setting mixing.sample_rates: expected rates above model.low_rate "
            f"({model.above_rate} Hz), got {min(sample_rates)} Hz"
        )
        raise ConfigError(msg)
    if model.above_rate or model.stage_rates:
        check_torchaudio(
            f"training a {model.family} with losses at other sampling frequencies",
            instead="train a family without them",
        )
    left_out = [stem for stem in stems if stem not in model.sources]
    if left_out and model.gain_rule == "mixture-consistent":
        msg = (
            "training setting model.gain_rule: mixture-consistent makes stems add up to the "
            f"mixture, but model.sources leaves out {', '.join(left_out)}: set it to least-squares"
        )
        raise ConfigError(msg)
