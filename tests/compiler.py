"""Marks of tests that compile."""

import shutil
import sysconfig
from pathlib import Path

import pytest

compiles = [
    pytest.mark.skipif(
        shutil.which("g++") is None or not Path(sysconfig.get_path("include"), "Python.h").exists(),
        reason="torch.compile needs a C++ compiler and Python's headers",
    ),
    pytest.mark.filterwarnings("ignore"),  # of the compiler's own making
]
