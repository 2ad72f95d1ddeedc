"""The error that is shown to the user."""


class OperationError(Exception):
    """One sentence that says what is wrong and what to do; the command line prints it and exits with code 1."""
