"""The confirmation before a stack is destroyed."""

from infra.errors import OperationError

PROD = "prod"


def check_confirmation(stack: str, typed: str | None, *, protected: bool, yes: bool) -> None:
    """Require confirmation: `yes` is enough for an unprotected stack, a protected stack needs its name.

    Raises:
        OperationError: The confirmation is missing.
    """
    needs_name = protected or stack == PROD
    if typed == stack or (yes and not needs_name):
        return
    hint = f"CONFIRM={stack}" if needs_name else f"YES=1 or CONFIRM={stack}"
    raise OperationError(f"nothing was destroyed: type {stack} at the prompt, or set {hint}")
