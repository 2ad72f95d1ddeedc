"""A machine-readable summary of a plan."""

from typing import Any

from ops.plan.plan import Bill, Comparison, Plan


def summary(plan: Plan, compared: Comparison | None) -> dict[str, Any]:
    """Return a plan's numbers, and the differences if it is compared."""
    found: dict[str, Any] = {
        "stack": plan.recording.stack,
        "region": plan.recording.region,
        "resources": dict(plan.counts),
        "cost": _cost(plan.bill),
    }
    if compared:
        found["against"] = {
            "name": compared.other,
            "cost": _cost(compared.bill),
            "added": [resource.urn for resource in compared.difference.added],
            "removed": [resource.urn for resource in compared.difference.removed],
            "changed": {
                entry.resource.urn: {change.path: [change.before, change.after] for change in entry.changes}
                for entry in compared.difference.changed
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
