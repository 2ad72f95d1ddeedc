"""The two kinds of failure that a step tells apart, both worded for the person who reads the task's log."""


class PermanentError(Exception):
    """The same input fails again: a person must change something, so the task is not retried."""


class ServiceUnavailableError(Exception):
    """A service that the step needs does not answer: the task is retried."""
