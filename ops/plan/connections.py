"""The connections to a stack's database server."""

from infra import helm_values
from infra.database_connections import available_connections, of_preview, of_stack
from infra.settings import load
from infra.settings.preview_rules import why_no_previews


def connections(stack: str, instance_class: str) -> str:
    """Return how many connections an RDS instance class allows, and how many the stack opens at most."""
    available, parts = available_connections(instance_class), of_stack(helm_values.stack_values(stack))
    opened = ", ".join(f"{name} {count}" for name, count in parts.items())
    text = f"allows {available} connections; {stack} opens up to {sum(parts.values())}: {opened}"
    if why_no_previews(stack, load(stack)):
        return text
    each = of_preview()
    return f"{text}; room for {(available - sum(parts.values())) // each} preview environments of up to {each}"
