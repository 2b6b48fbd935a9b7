"""Options of `sfisep separate` that say in short, or in several flags, what one setting is."""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from sfisep_core.errors import ConfigError
from sfisep_core.separation.output import Container
from sfisep_core.separation.settings import MethodName

_Encoding = Literal["int16", "int24", "float32"]


def method_of(method: MethodName, *, super_resolve: bool) -> MethodName:
    """Return the requested method, from either option."""
    if super_resolve and method not in ("native", "super-resolve"):
        msg = f"--super-resolve and --method {method} exclude each other: give one of them"
        raise ConfigError(msg)
    return "super-resolve" if super_resolve else method


def container_of(container: Container | None, *, mp3: bool, flac: bool) -> Container:
    """Return the requested file format, from any of the options."""
    flags: dict[Container, bool] = {"mp3": mp3, "flac": flac}
    wanted = {name for name, flag in flags.items() if flag} | {container} - {None}
    if len(wanted) > 1:
        msg = "--format, --mp3 and --flac exclude each other: give one of them"
        raise ConfigError(msg)
    return next((name for name in wanted if name is not None), "wav")


def encoding_of(
    container: Container, *, int16: bool, int24: bool, float32: bool
) -> _Encoding | None:
    """Return the requested encoding, or None for the default."""
    flags: dict[_Encoding, bool] = {"int16": int16, "int24": int24, "float32": float32}
    wanted = [encoding for encoding, flag in flags.items() if flag]
    if len(wanted) > 1:
        msg = "--int16, --int24 and --float32 exclude each other: give one of them"
        raise ConfigError(msg)
    if container in ("flac", "stem.mp4") and wanted == ["float32"]:
        msg = f"--format {container} has no floating-point samples: give --int24, or --format wav"
        raise ConfigError(msg)
    if container not in ("wav", "flac", "stem.mp4") and wanted:
        msg = f"--format {container} has no sample format: leave --{wanted[0]} out, or choose wav"
        raise ConfigError(msg)
    return wanted[0] if wanted else None


def stems_of(stems: str | None, inputs: Sequence[Path]) -> tuple[str, ...] | None:
    """Return the requested stems, or None for all.

    Args:
        stems: Value of --stems.
        inputs: All inputs: behind `--stems vocals drums`, drums is one.

    Raises:
        ConfigError: An input looks like a second stem.
    """
    if stems is None:
        return None
    for name in map(str, inputs):
        if name.isidentifier() and not os.path.exists(name):
            msg = (
                f"{name}: no such file or folder: several stems are separated by commas, as in "
                f"`--stems {stems},{name}`"
            )
            raise ConfigError(msg)
    return tuple(name.strip() for name in stems.split(","))
