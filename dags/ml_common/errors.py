"""The two kinds of failure of a step. Their messages are for the reader of the task's log."""


class PermanentError(Exception):
    """The step would fail again until something is fixed, so the task is not retried."""


class ServiceUnavailableError(Exception):
    """A service that the step needs does not answer, so the task is retried."""
