"""What follows from the report of a month: the next tasks, and the message."""

from typing import TypedDict

from ml_common.notification import notify

DAG = "flight_monitor"
MODEL = "flight_delays"


class Request(TypedDict):
    """The `extra` of an event of the asset `retrain_request`: a model is needed as of this day, and why."""

    as_of: str
    month: str
    reason: str


class Report(TypedDict):
    """What follows from a month."""

    month: str
    request: Request | None
    message: str | None


def next_tasks(reported: Report) -> list[str]:
    """Return the tasks that run next: none if all is fine."""
    return [
        *(["request_retraining"] if reported["request"] else []),
        *(["notify"] if reported["message"] else []),
    ]


def send(reported: Report) -> None:
    """Send the message of a report."""
    what = "a new model is requested" if reported["request"] else "the inputs drifted"
    notify(DAG, f"{MODEL} {reported['month']}: {what}", str(reported["message"]))
