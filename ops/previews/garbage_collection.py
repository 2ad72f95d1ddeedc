"""Remove expired preview environments, and list the existing ones."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from datetime import UTC, datetime, timedelta

from infra.documents import REPOSITORY
from infra.errors import OperationError
from infra.preview_names import PREFIX
from infra.previews.settings import file_of, is_expired, load_preview
from infra.settings import SettingsError
from ops.console import Echo
from ops.previews.base import records_of
from ops.previews.environment import write_file
from ops.previews.records import Record
from ops.previews.removal import forget, remove
from ops.stacks.platform_stack import PlatformStack


def collect(base: PlatformStack, now: datetime, echo: Echo) -> None:
    """Remove expired environments and finish interrupted removals. A failure does not stop the others.

    Raises:
        OperationError: Some environments could not be removed. The reasons are printed first.
    """
    failed = 0
    for record in records_of(base).all():
        try:
            if is_due(record, now):
                echo(f"removing {record.stack}")
                remove(base, record, echo)
            else:
                echo(f"{record.stack} is kept until {moment(record.settings.expires_at)}")
        except (OperationError, SettingsError) as error:
            echo(f"{record.stack} could not be removed: {error}")
            failed += 1
    if failed:
        raise OperationError(
            f"{failed} preview environments of {base.name} could not be removed: see the output above, then rerun "
            "this command"
        )


def is_due(record: Record, now: datetime) -> bool:
    """Return whether an environment must be removed.

    Raises:
        SettingsError: The record is invalid.
    """
    return record.removing or is_expired(record.settings, now)


def list_environments(base: PlatformStack, now: datetime, echo: Echo) -> None:
    """Print the environments of a base, and write their stack files for other commands.

    Raises:
        OperationError: The request to the cluster failed.
    """
    records = records_of(base).all()
    for record in records:
        write_file(record)
    _forget_others(base, {record.stack for record in records})
    if not records:
        echo(f"{base.name} has no preview environments")
    for line in lines(records, now):
        echo(line)


def lines(records: Sequence[Record], now: datetime) -> list[str]:
    """Return a line for each environment: stack, branch, owner, age and expiry."""
    rows = [_row(record, now) for record in records]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]


def _row(record: Record, now: datetime) -> tuple[str, ...]:
    age = duration(now - (record.created_at or now))
    try:
        settings = record.settings
    except SettingsError:
        return record.stack, "unreadable", "", f"{age} old", "rewrite its record with make preview-env"
    if record.removing:
        end = "being removed"
    elif is_expired(settings, now):
        end = "expired"
    else:
        end = f"{duration(settings.expires_at - now)} left, until {moment(settings.expires_at)}"
    return record.stack, settings.branch, settings.owner, f"{age} old", end


def duration(span: timedelta) -> str:
    """Return a duration in its largest unit, such as 3 d."""
    minutes = int(span.total_seconds()) // 60
    for unit, size in (("d", 24 * 60), ("h", 60)):
        if minutes >= 2 * size:
            return f"{minutes // size} {unit}"
    return f"{minutes} min"


def moment(time: datetime) -> str:
    """Return a time in UTC, such as 2026-11-21 12:01 UTC."""
    return f"{time.astimezone(UTC):%Y-%m-%d %H:%M} UTC"


def _forget_others(base: PlatformStack, stacks: set[str]) -> None:
    for file in REPOSITORY.glob(file_of(f"{PREFIX}*").name):
        stack = file.name.split(".")[1]
        with suppress(SettingsError):
            if stack not in stacks and load_preview(stack).base == base.name:
                forget(stack)
