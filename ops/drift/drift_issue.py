"""Keep one GitHub issue per stack, open while the stack has drift."""

from __future__ import annotations

import json
import subprocess

from infra.errors import OperationError
from ops.console import Echo
from ops.drift.drift import Drifted


def keep(stack: str, found: tuple[Drifted, ...], echo: Echo) -> None:
    """Open or update the stack's issue if it has drifted, and close it otherwise.

    Raises:
        OperationError: The GitHub CLI is missing, or fails.
    """
    title = f"Drift in {stack}"
    listed = json.loads(_gh("issue", "list", "--search", f'in:title "{title}"', "--json", "number,title,url"))
    issue = next((one for one in listed if one["title"] == title), None)
    if not found:
        if issue:
            _gh("issue", "close", str(issue["number"]), "--comment", f"{stack} has no drift.")
            echo(f"closed {issue['url']}")
    elif issue:
        _gh("issue", "edit", str(issue["number"]), "--body-file", "-", text=body(stack, found))
        echo(f"updated {issue['url']}")
    else:
        echo(f"opened {_gh('issue', 'create', '--title', title, '--body-file', '-', text=body(stack, found)).strip()}")


def body(stack: str, found: tuple[Drifted, ...]) -> str:
    """Return the text of the issue: what drifted, without any values."""
    lines = [f"`make drift STACK={stack}` shows the values. See docs/runbooks/drift.md for what to do.", ""]
    for resource in found:
        what = "deleted" if resource.deleted else ", ".join(f"`{change.path}`" for change in resource.changes)
        lines.append(f"- `{resource}`: {what or 'changed'}")
    return "\n".join(lines) + "\n"


def _gh(*arguments: str, text: str = "") -> str:
    try:
        done = subprocess.run(["gh", *arguments], input=text, check=False, capture_output=True, text=True)
    except FileNotFoundError as error:
        raise OperationError("the GitHub CLI gh is not on PATH: install it, or omit ISSUE=1") from error
    if done.returncode != 0:
        raise OperationError(f"`gh {' '.join(arguments[:2])}` failed: {done.stderr.strip()}")
    return done.stdout
