"""Check that torchaudio can be loaded, before work starts that needs it.

torchaudio is a compiled extension of torch. Incompatible versions fail at import: with a missing
symbol or library (OSError, ImportError), or because of another CUDA version (RuntimeError). Only
the windowed-sinc resampler needs it, so everything else works without it.
"""

import importlib.metadata

from sfisep_core.errors import ConfigError

# The oldest compatible releases; also in pyproject.toml.
OLDEST_TORCH = "2.13"
OLDEST_TORCHAUDIO = "2.11.1"

_LONGEST_REASON = 200  # characters


def check_torchaudio(purpose: str, *, instead: str) -> None:
    """Raise an error if torchaudio, which some work needs, cannot be loaded.

    Args:
        purpose: What needs it, as the start of a sentence.
        instead: What to do if torchaudio cannot be replaced, as the end of a sentence.

    Raises:
        ConfigError: It is not installed, or is not compatible with the installed torch.
    """
    try:
        import torchaudio.transforms  # noqa: F401  # the import is the test
    except (AttributeError, ImportError, OSError, RuntimeError) as error:
        reason = str(error).strip().partition("\n")[0][:_LONGEST_REASON] or type(error).__name__
        msg = (
            f"{purpose} needs torchaudio, which cannot be loaded: {reason}. Installed are torch "
            f"{_version('torch')} and torchaudio {_version('torchaudio')}; expected torch "
            f"{OLDEST_TORCH} or newer with torchaudio {OLDEST_TORCHAUDIO} or newer, both built for "
            "CUDA or both for the CPU. Install a pair that fits, for example with `pip install "
            f"--upgrade torch torchaudio`, or {instead}"
        )
        raise ConfigError(msg) from error


def _version(package: str) -> str:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return "(not installed)"
