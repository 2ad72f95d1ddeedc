"""The lists of stacks in the GitHub workflows, which follow the stack files."""

import re
from collections.abc import Sequence
from pathlib import Path

from infra.documents import REPOSITORY, read_text
from infra.settings.loading import stack_summaries
from infra.settings.stack_summaries import StackSummaries, lineage

FOLDER = Path(".github", "workflows")

# The parts of a workflow that name stacks.
CHOICE = r"^( +{name}:\n(?: +(?:description|type): .*\n)+ +options: )\[.*\]$"
MATRIX = re.compile(r"^( +)- \{stack: .*\}\n(?:\1- \{stack: .*\}\n)*", re.MULTILINE)
PROMOTIONS = re.compile(r'\^\([a-z0-9-]+/[a-z0-9/|-]+\)\$ \]\] \|\| \{ echo "::error::promote [^"]*"')
NAMES = re.compile(r"\^\([a-z0-9|-]+\)/")


def write(root: Path = REPOSITORY) -> Sequence[Path]:
    """Bring the workflows in line with the stack files; return those that changed."""
    stacks = stack_summaries(root)
    files = {file: read_text(file) for file in sorted((root / FOLDER).glob("*.yaml"))}
    changed = {file: new for file, text in files.items() if (new := text_with(text, stacks)) != text}
    for file, text in changed.items():
        file.write_text(text)
    return list(changed)


def text_with(text: str, stacks: StackSummaries) -> str:
    """Return the text of a workflow with these stacks."""
    released = _released(stacks)
    pairs = [(after, name) for name in released if (after := stacks[name].after)]
    for name, options in {
        "stack": released,
        "from": [name for name in released if name in dict(pairs)],
        "to": [name for _, name in pairs],
    }.items():
        text = re.sub(CHOICE.format(name=name), rf"\g<1>[{', '.join(options)}]", text, flags=re.MULTILINE)
    text = MATRIX.sub(lambda found: _matrix(found[1], released, stacks), text)
    text = NAMES.sub(f"^({'|'.join(released)})/", text)
    return PROMOTIONS.sub(_promotions(pairs), text)


def _released(stacks: StackSummaries) -> list[str]:
    """Return the stacks with releases: first those of which other stacks get theirs."""
    names = [name for name, stack in stacks.items() if stack.has_releases and stack.network]
    return sorted(names, key=lambda name: (len(lineage(name, stacks)), name))


def _matrix(indent: str, names: Sequence[str], stacks: StackSummaries) -> str:
    branches = {name: source.branch for name in names if (source := stacks[name].source)}
    return "".join(f"{indent}- {{stack: {name}, branch: {branch}}}\n" for name, branch in branches.items())


def _promotions(pairs: Sequence[tuple[str, str]]) -> str:
    expression = "|".join(f"{before}/{name}" for before, name in pairs)
    sentence = " or ".join(f"from {before} to {name}" for before, name in pairs)
    return f'^({expression})$ ]] || {{ echo "::error::promote {sentence}"'
