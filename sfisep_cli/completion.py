"""What the shell completes after an option: names of models and of presets.

Errors must not appear in the middle of a line that somebody types: where names cannot be read there
are none. Files are completed by the shell itself where no name fits.
"""

from sfisep_core.errors import SfisepError


def complete_model(incomplete: str) -> list[str]:
    """Return the names of models that begin with a text; of A+B, the last is completed."""
    from sfisep_core.pretrained.registry import list_models

    try:
        names = [entry.name for entry in list_models()]
    except (SfisepError, OSError):
        return []
    before, plus, last = incomplete.rpartition("+")
    return [f"{before}{plus}{name}" for name in names if name.startswith(last)]


def complete_preset(incomplete: str) -> list[str]:
    """Return the names of presets for training that begin with a text."""
    from sfisep_core.training.presets import list_presets

    return [name for name in list_presets() if name.startswith(incomplete)]
