"""The error that a person sees."""


class OperationError(Exception):
    """One sentence that says what is wrong and what to do; the command line prints it and ends with exit code 1."""
