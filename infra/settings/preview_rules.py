"""Which stacks may have preview environments."""

from infra.settings import ExistingClusterSettings, StackSettings
from infra.settings.rules import PROD


def why_no_previews(stack: str, settings: StackSettings) -> str | None:
    """Return why there may be no preview environments beside a stack; None where there may be."""
    protected = not isinstance(settings, ExistingClusterSettings) and settings.protect
    if stack == PROD or protected:
        return f"{stack} holds what must not be lost, so nothing is tried beside it: give STACK=dev"
    if settings.release and (before := settings.release.after):
        return f"{stack} runs the releases of {before}, so no image of a branch comes into it: give STACK={before}"
    return None
