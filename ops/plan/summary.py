"""A plan's figures for programs."""

from typing import Any

from ops.plan.plan import Bill, Comparison, Plan


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
