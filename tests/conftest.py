"""What tests of all folders share."""

from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="session")
def shared_dir() -> Path:
    """The folder of reference data beside the checkout."""
    path = REPOSITORY.parent / "shared"
    if not path.is_dir():
        pytest.skip("no folder 'shared' with reference data beside the checkout")
    return path


def pytest_runtest_setup(item: pytest.Item) -> None:
    if item.get_closest_marker("gpu") is not None:
        import torch

        if not torch.cuda.is_available():
            pytest.skip("needs a CUDA device")
