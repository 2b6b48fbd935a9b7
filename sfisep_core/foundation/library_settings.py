"""What libraries read from the environment when they start; the user's settings are kept."""

import os


def set_library_defaults() -> None:
    """Set how PyTorch allocates memory and how its threads wait; call it before PyTorch is used.

    - Huge pages: PyTorch on Linux asks for them for tensors of 2 MiB and more. With pages of 4 KiB
      a separation spends a tenth of its time on making pages of memory that it has just freed.
    - Threads that wait for others: GNU's OpenMP, which PyTorch brings along on Linux, lets them
      spin for milliseconds before they sleep. On two idle cores that won nothing. Where other
      programs computed as well it took cores from the threads that were waited for, and up to twice
      the time.
    """
    os.environ.setdefault("THP_MEM_ALLOC_ENABLE", "1")
    if "OMP_WAIT_POLICY" not in os.environ:
        os.environ.setdefault("GOMP_SPINCOUNT", "1000")
