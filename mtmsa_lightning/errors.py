"""Errors that a user can fix: the message says what is wrong, where, and what to do."""

from mtmsa_lightning._utils.text import shorten_message


class MTMSAError(Exception):
    """Base of all errors shown to a user as one short message without a traceback.

    Args:
        message: Is shortened where a value, name or list in it is long.
    """

    def __init__(self, message: object = "") -> None:
        super().__init__(shorten_message(str(message)))


class DataError(MTMSAError):
    """A dataset, table, image or split that cannot be used as it is."""


class ConfigError(MTMSAError):
    """A configuration value or command line that cannot work."""


class CheckpointError(MTMSAError):
    """A checkpoint or weight file that does not fit."""


class ProcessError(MTMSAError):
    """A failure of another of the processes that train together, with its message."""


class Preempted(Exception):  # noqa: N818  # nothing went wrong
    """A run that was told to stop and did so in order; the same command, or its continuation, goes on.

    Args:
        message: What was saved, and how to go on.
        status: Exit status of this process.
    """

    def __init__(self, message: str, status: int) -> None:
        super().__init__(message)
        self.status = status
