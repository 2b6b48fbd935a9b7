"""Sampling-frequency-independent music source separation: models, training, separation, scores.

The most important names can be imported from here, as in `from sfisep_core import Separator`. They
are loaded on first use, so that importing the package is fast.
"""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from sfisep_core.errors import (
        AudioFileError,
        CheckpointError,
        ConfigError,
        DatasetError,
        DeviceError,
        SfisepError,
        TrainingError,
        UnknownModelError,
        WorkerError,
    )
    from sfisep_core.models.contract import SeparationModel
    from sfisep_core.pretrained.resolve import resolve_model as load_model
    from sfisep_core.results import SavedStems, SeparatedFile
    from sfisep_core.separation.output import Output
    from sfisep_core.separation.result import Separation
    from sfisep_core.separation.separator import Separator
    from sfisep_core.separation.settings import MethodOptions, SeparationSettings

__all__ = [
    "AudioFileError",
    "CheckpointError",
    "ConfigError",
    "DatasetError",
    "DeviceError",
    "MethodOptions",
    "Output",
    "SavedStems",
    "SeparatedFile",
    "Separation",
    "SeparationModel",
    "SeparationSettings",
    "Separator",
    "SfisepError",
    "TrainingError",
    "UnknownModelError",
    "WorkerError",
    "load_model",
]

# Module of each name, and its name in the module if it differs.
_HOMES = {
    "MethodOptions": "separation.settings",
    "Output": "separation.output",
    "SavedStems": "results",
    "SeparatedFile": "results",
    "Separation": "separation.result",
    "SeparationModel": "models.contract",
    "SeparationSettings": "separation.settings",
    "Separator": "separation.separator",
    "load_model": "pretrained.resolve",
}
_OTHER_NAMES = {"load_model": "resolve_model"}

# Type checkers use the imports above; with this function they would accept any name.
if not TYPE_CHECKING:

    def __getattr__(name):
        """Import a name of `__all__` when it is first used."""
        if name not in __all__:
            msg = f"module {__name__!r} has no attribute {name!r}"
            raise AttributeError(msg)
        module = import_module(f"{__name__}.{_HOMES.get(name, 'errors')}")
        value = globals()[name] = getattr(module, _OTHER_NAMES.get(name, name))
        return value


def __dir__() -> list[str]:
    """List the names that can be imported."""
    return sorted({*globals(), *__all__})
