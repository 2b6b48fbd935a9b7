import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from sfisep_core.pretrained.registry import RELEASED
from tests.pretrained.hub_server import Hub, running_hub, use_hub
from tests.pretrained.test_official import make_checkpoint

NAME = "sfi-conv-tasnet-fd-mgf"


def run_path(seed: int) -> str:
    """Path of a checkpoint: its folder lists the settings of the run."""
    return (
        f"runs/model=sfi_convtasnet_fd_mgf,dataset=musdb18_32000,n=440,seed={seed}/best_checkpoint"
    )


@pytest.fixture(scope="session")
def checkpoints(tmp_path_factory: pytest.TempPathFactory) -> dict[int, bytes]:
    """Small checkpoints in the published format, by seed."""
    folder = tmp_path_factory.mktemp("checkpoints")
    found = {}
    for seed, gammatone in ((40, False), (42, True)):
        make_checkpoint(folder / "best_checkpoint", gammatone=gammatone)
        found[seed] = (folder / "best_checkpoint").read_bytes()
    return found


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    """The folder of cached models; it does not exist yet."""
    return tmp_path / "cache" / "models"


@pytest.fixture
def hub(
    checkpoints: dict[int, bytes], cache: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Hub]:
    """A hub with two runs of one released model."""
    with running_hub() as server:
        released = RELEASED[NAME]
        files = server.repositories[released.repository, released.revision]
        files["README.md"] = b"# Weights"
        for seed, content in checkpoints.items():
            files[run_path(seed)] = content
            files[run_path(seed).replace("best_checkpoint", "results.json")] = b"{}"
        use_hub(monkeypatch, server, str(cache.parent))
        yield server


@pytest.fixture
def waits(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Note how long it would be waited, instead of waiting."""
    found: list[float] = []
    monkeypatch.setattr(time, "sleep", found.append)
    return found
