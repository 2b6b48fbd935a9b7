"""Exit codes, which scripts may rely on."""

from enum import IntEnum


class ExitCode(IntEnum):
    """Exit code of the process."""

    OK = 0
    FAILED = 1  # some of the work failed; the rest is done
    USAGE = 2  # the command line or a setting is wrong; nothing was started
    INTERRUPTED = 130  # Ctrl-C: 128 + SIGINT, as shells count
