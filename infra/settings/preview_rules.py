"""Which stacks allow preview environments."""

from infra.settings import ExistingClusterSettings, StackSettings
from infra.settings.rules import PROD


def why_no_previews(stack: str, settings: StackSettings) -> str | None:
    """Return why a stack does not allow preview environments; None if it does."""
    protected = not isinstance(settings, ExistingClusterSettings) and settings.protect
    if stack == PROD or protected:
        return f"{stack} is protected and does not allow preview environments: set STACK=dev"
    if settings.release and (before := settings.release.after):
        return f"{stack} only runs releases of {before} and does not allow preview environments: set STACK={before}"
    return None
