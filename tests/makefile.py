"""What the Makefile takes: its targets, and the variables of each."""

import re
from collections.abc import Mapping
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[1]

TARGET = re.compile(r"^([a-z0-9-]+):.*## .*\n((?:\t.*\n)*)", re.MULTILINE)
# Parts of recipes, such as `named_stack`; and what the Makefile sets for itself.
PART = re.compile(r"^([a-z_]+) = (.*)$", re.MULTILINE)
OWN = re.compile(r"^([A-Z]+) :=", re.MULTILINE)
# In a page or a workflow: the target, and the variables after it.
COMMAND = re.compile(r"""\bmake ([a-z][a-z0-9-]+)\b((?: [A-Z_]+=(?:"[^"]*"|[^\s`;,)]*))*)""")
VARIABLE = re.compile(r"([A-Z_]+)=")


def targets() -> Mapping[str, frozenset[str]]:
    """Return each target with the variables that its commands read."""
    text = (REPOSITORY / "Makefile").read_text()
    own = set(OWN.findall(text))
    found = {}
    for name, recipe in TARGET.findall(text):
        whole = recipe
        for part, content in PART.findall(text):
            whole = whole.replace(f"$({part})", content)
        found[name] = frozenset(re.findall(r"\$\$?[({]?([A-Z_]+)\b", whole)) - own
    return found


def mistakes(text: str) -> list[str]:
    """Return what is wrong with the commands in a text: targets that are not there, variables that nothing reads."""
    known = targets()
    found = []
    for target, variables in COMMAND.findall(text):
        if target not in known:
            found.append(f"make {target}")
        else:
            found += [f"make {target} {name}=" for name in VARIABLE.findall(variables) if name not in known[target]]
    return found
