"""The exit codes that scripts may rely on."""

from enum import IntEnum


class ExitCode(IntEnum):
    """What the process says when it ends."""

    OK = 0
    FAILED = 1  # something could not be done; what could be done is done
    USAGE = 2  # the command line or a setting is wrong; nothing was started
    INTERRUPTED = 130  # Ctrl-C: 128 + SIGINT, as shells count
