"""The errors that sfisep raises for problems a user can solve.

Every message says what failed, where, what was expected, what was found, and what to do.
`assert` is kept for our own mistakes.
"""

from sfisep_core.wording import printable


class SfisepError(Exception):
    """Root of all errors that a user can solve; the command line prints it as one message.

    Args:
        message: Names and values from outside may be in it as they are: here they become text that
            can be shown.
    """

    def __init__(self, message: str = "") -> None:
        super().__init__(printable(message))


class AudioFileError(SfisepError):
    """An audio file cannot be read or written as asked."""


class ConfigError(SfisepError):
    """A setting, or a combination of settings, cannot be used."""


class DatasetError(SfisepError):
    """A data set is missing, incomplete or inconsistent."""


class CheckpointError(SfisepError):
    """A model file is missing, damaged, of another kind, or not to be trusted."""


class TrainingError(SfisepError):
    """Training cannot go on."""


class DeviceError(SfisepError):
    """A device cannot do what is asked of it."""


class WorkerError(SfisepError):
    """A process that worked for this one was killed, or cannot do its work where it is."""
