from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

FOLDER = Path(__file__).resolve().parents[2] / ".github" / "workflows"
FILES = sorted(FOLDER.glob("*.yaml"))


@dataclass(frozen=True)
class Job:
    """A job and the workflow that contains it."""

    workflow: str
    name: str
    content: dict[str, Any]
    around: dict[str, Any]

    def __str__(self) -> str:
        return f"{self.workflow} {self.name}"

    @property
    def steps(self) -> list[dict[str, Any]]:
        return list(self.content["steps"])

    def environment(self, step: dict[str, Any]) -> dict[str, str]:
        """Return the environment of a step."""
        return {**self.around.get("env", {}), **self.content.get("env", {}), **step.get("env", {})}

    @property
    def commands(self) -> list[str]:
        """The commands of its steps."""
        return [step["run"] for step in self.steps if "run" in step]

    def uses(self, action: str) -> bool:
        return any(step.get("uses", "").startswith(f"{action}@") for step in self.steps)


def workflow(file: Path) -> dict[str, Any]:
    """Read a workflow file."""
    content = yaml.safe_load(file.read_text())
    return {"on" if key is True else str(key): value for key, value in content.items()}  # `on` is true in YAML 1.1


def jobs() -> Iterator[Job]:
    for file in FILES:
        content = workflow(file)
        for name, job in content["jobs"].items():
            yield Job(file.stem, name, job, content)
