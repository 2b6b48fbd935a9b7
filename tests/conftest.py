"""What tests of all folders share."""

import os
import secrets
import signal
from pathlib import Path

import pytest

# Test processes share the cores already, and cores that wait for each other are slow.
if "PYTEST_XDIST_WORKER" in os.environ:
    os.environ.setdefault("OMP_NUM_THREADS", "1")

# Ray runs its workers at the lowest priority but four, where they wait for other test processes.
os.environ.setdefault("RAY_worker_niceness", "0")

# A shell that starts the tests in the background hands SIGINT down as ignored, to them and to the
# processes that they start.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

TESTS = Path(__file__).resolve().parent
REPOSITORY = TESTS.parent


@pytest.fixture(scope="session")
def shared_dir() -> Path:
    """The folder of reference data beside the checkout."""
    path = REPOSITORY.parent / "shared"
    if not path.is_dir():
        pytest.skip("no folder 'shared' with reference data beside the checkout")
    return path


@pytest.fixture(autouse=True)
def own_user_data(
    tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Keep tests, and the processes they start, from the user's own data and from each other's."""
    folder = tmp_path_factory.getbasetemp() / "user-data" / secrets.token_hex(8)
    monkeypatch.setenv("XDG_DATA_HOME", str(folder))
    monkeypatch.delenv("SFISEP_DATA", raising=False)


# Files that take longest come first: one that comes last leaves the other processes without work.
LONGEST = (
    "docs/test_tutorials.py",
    "training/test_processes.py",
    "training/test_presets_overfit.py",
    "separation/test_interruptions.py",
    "cli/test_execution.py",
    "separation/listening/test_browser.py",
    "training/test_presets.py",
    "evaluation/test_evaluate.py",
    "evaluation/test_bss_eval.py",
    "models/test_spleeter.py",
    "cli/test_evaluate_command.py",
    "separation/test_memory.py",
    "separation/test_compiled.py",
    "test_public_names.py",
    "data/test_mixing.py",
    "data/test_loader.py",
)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    places = {TESTS / name: place for place, name in enumerate(LONGEST)}
    items.sort(key=lambda item: places.get(item.path, len(places)))


def pytest_runtest_setup(item: pytest.Item) -> None:
    if item.get_closest_marker("gpu") is not None:
        import torch

        if not torch.cuda.is_available():
            pytest.skip("needs a CUDA device")
