"""Errors of sfisep for problems that a user can solve.

Every message states what failed, where, what was expected, what was found, and what to do. `assert`
is only used for programming errors.
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
    """An audio file cannot be read or written as requested."""


class ConfigError(SfisepError):
    """A setting, or a combination of settings, is invalid."""


class DatasetError(SfisepError):
    """A data set is missing, incomplete or inconsistent."""


class CheckpointError(SfisepError):
    """A model file is missing, damaged, of another kind, or not trustworthy."""


class UnknownModelError(CheckpointError, ConfigError):
    """No model has the given name, and no file: the setting that names it is wrong."""


class TrainingError(SfisepError):
    """Training cannot continue."""


class DeviceError(SfisepError):
    """A device is not available, or cannot do what is requested."""


class WorkerError(SfisepError):
    """A worker process was killed, or cannot do its work on its machine."""
