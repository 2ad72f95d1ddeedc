"""The command behind `make plan`."""

import argparse
import json
import sys
from typing import Any

from infra.command_line import ending_in_a_sentence
from infra.console import new_console
from infra.paths import user_path
from infra.plan.against import recording_of
from infra.plan.page import page
from infra.plan.plan import Bill, Comparison, Plan, comparison, plan_of
from infra.plan.recording import REPOSITORY, record
from infra.plan.terminal import show

FOLDER = REPOSITORY / ".plan"


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(
        prog="python -m infra.plan", description="Show what a stack creates, costs and allows."
    )
    parser.add_argument("stack", help="the stack, such as dev")
    parser.add_argument(
        "--against", metavar="STACK|REF", help="show what differs from another stack, or from a git ref"
    )
    parser.add_argument(
        "--html", type=user_path, metavar="FILE", help="where the page goes (default: .plan/<stack>.html)"
    )
    output = parser.add_mutually_exclusive_group()
    output.add_argument("--json", action="store_true", help="print a summary as JSON instead, for a comment in CI")
    output.add_argument("--recording", action="store_true", help="print every resource as JSON instead")
    arguments = parser.parse_args()
    with ending_in_a_sentence():
        run(arguments)


def run(arguments: argparse.Namespace) -> None:
    """Make the plan, and show it.

    Raises:
        OperationError: There is no such stack, or nothing to compare it with.
        RunError: Its settings are wrong.
    """
    recording = record(arguments.stack)
    if arguments.recording:
        sys.stdout.write(recording.to_json())
        return
    plan = plan_of(recording)
    beside = None
    if arguments.against:
        beside = comparison(plan, arguments.against, recording_of(arguments.against, arguments.stack))
    if arguments.json:
        sys.stdout.write(json.dumps(summary(plan, beside), indent=2) + "\n")
        return
    file = arguments.html or FOLDER / f"{arguments.stack}.html"
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(page(plan, beside))
    console = new_console()
    show(console, plan, beside)
    console.print(f"page       {file}", soft_wrap=True)


def summary(plan: Plan, beside: Comparison | None) -> dict[str, Any]:
    """Return the plan's figures, and what differs, for programs."""
    found: dict[str, Any] = {
        "stack": plan.recording.stack,
        "region": plan.recording.region,
        "resources": dict(plan.counts),
        "cost": _cost(plan.bill),
    }
    if beside:
        found["against"] = {
            "name": beside.other,
            "cost": _cost(beside.bill),
            "added": [resource.urn for resource in beside.difference.added],
            "removed": [resource.urn for resource in beside.difference.removed],
            "changed": {
                entry.resource.urn: {change.path: [change.before, change.after] for change in entry.changes}
                for entry in beside.difference.changed
            },
        }
    return found


def _cost(bill: Bill) -> dict[str, Any]:
    if bill.missing:
        return {"missing": bill.missing}
    return {
        "idle_usd": round(bill.total.idle, 2),
        "load_usd": round(bill.total.load, 2),
        "lines": [
            {
                "resource": line.resource,
                "what": line.what,
                "idle_usd": round(line.idle, 2),
                "load_usd": round(line.load, 2),
                "basis": line.basis,
                "price": line.price.usd,
                "unit": line.price.unit,
                "source": line.price.source,
            }
            for line in bill.lines
        ],
    }


if __name__ == "__main__":
    main()
