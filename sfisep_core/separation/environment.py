"""Description of the environment, for problem reports."""

import importlib.metadata
import os
import platform
import shutil
import subprocess
from typing import Any

import soundfile
import torch

from sfisep_core.pretrained.cache import cache_folder
from sfisep_core.pretrained.fetch import local_models

_PACKAGES = (
    *("sfisep", "torch", "torchaudio", "numpy", "scipy", "soundfile", "soxr", "librosa", "musdb"),
    *("museval", "av", "safetensors", "pooch", "typer", "rich", "matplotlib", "ray"),
)
_VARIABLES = (
    *("SFISEP_CACHE", "SFISEP_DATA", "SFISEP_WEIGHTS_URL", "TMPDIR", "OMP_NUM_THREADS"),
    *("CUDA_VISIBLE_DEVICES", "HF_HUB_OFFLINE", "HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY"),
)
_FFMPEG_SECONDS = 10


def describe_environment() -> dict[str, Any]:
    """Describe versions, devices, ffmpeg, and the folder of models, as plain values."""
    return {
        "packages": {name: _version(name) for name in _PACKAGES}
        | {"torch": torch.__version__},  # includes the CUDA version of the build
        "libsndfile": soundfile.__libsndfile_version__,
        "python": platform.python_version(),
        "system": platform.platform(),
        "cpu": {
            "cores": os.cpu_count(),
            "threads": torch.get_num_threads(),
            "capability": torch.backends.cpu.get_cpu_capability(),
        },
        "gpus": [_describe_gpu(index) for index in range(torch.cuda.device_count())],
        "ffmpeg": _describe_ffmpeg(),
        "models": {"folder": str(cache_folder()), "available": local_models()},
        # Proxy addresses may contain passwords: report only that they are set.
        "variables": {
            name: "(set)" if "PROXY" in name else os.environ[name]
            for name in _VARIABLES
            if name in os.environ
        },
    }


def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def _describe_gpu(index: int) -> dict[str, Any]:
    properties = torch.cuda.get_device_properties(index)
    return {
        "device": f"cuda:{index}",
        "name": properties.name,
        "memory_gib": round(properties.total_memory / 2**30, 1),
        "bf16": torch.cuda.is_bf16_supported(),
    }


def _describe_ffmpeg() -> dict[str, str] | None:
    path = shutil.which("ffmpeg")
    if path is None:
        return None
    try:
        done = subprocess.run(  # noqa: S603  # the user's ffmpeg
            [path, "-version"], capture_output=True, text=True, timeout=_FFMPEG_SECONDS, check=True
        )
    except (OSError, subprocess.SubprocessError) as error:
        return {"path": path, "version": f"does not run: {error}"}
    return {"path": path, "version": done.stdout.partition("\n")[0]}
