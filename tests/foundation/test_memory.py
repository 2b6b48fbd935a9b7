"""Memory that was freed goes back to the system."""

import sys
from pathlib import Path

import numpy as np
import pytest

from sfisep_core.foundation.memory import return_freed_memory


def resident_bytes() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc, and needs glibc")
def test_freed_memory_is_returned() -> None:
    # Below glibc's threshold for mappings of their own, and held by one array behind them.
    arrays = [np.ones(2**13) for _ in range(2000)]
    last = arrays[-1]
    del arrays
    before = resident_bytes()
    return_freed_memory()
    assert resident_bytes() < before - 50 * 2**20
    assert last.sum() == 2**13
