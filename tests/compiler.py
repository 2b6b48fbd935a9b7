"""Marks of tests that compile."""

import os
import shutil
import sysconfig
from pathlib import Path

import pytest

# Compile in the test's process: others would load PyTorch for one or two kernels.
os.environ.setdefault("TORCHINDUCTOR_COMPILE_THREADS", "1")

compiles = [
    pytest.mark.skipif(
        shutil.which("g++") is None or not Path(sysconfig.get_path("include"), "Python.h").exists(),
        reason="torch.compile needs a C++ compiler and Python's headers",
    ),
    pytest.mark.filterwarnings("ignore"),  # of the compiler's own making
    pytest.mark.no_cover,  # counting lines takes as long again in PyTorch's tracing
]
