"""Checks that no other user can write to a folder."""

import grp
import os
import pwd
import stat
from pathlib import Path
from shlex import quote

from infra.errors import OperationError


def require_own(folder: Path) -> None:
    """Require that a folder belongs to this user and that no other user may write to it.

    Raises:
        OperationError: The path is not a folder, belongs to another user, or is writable for others.
    """
    status = folder.stat()
    if not stat.S_ISDIR(status.st_mode):
        raise OperationError(f"{folder} is not a folder: set LAPTOP_HOME to another one")
    if status.st_uid != os.geteuid():
        raise OperationError(
            f"{folder} belongs to the user {_user_name(status.st_uid)}: run the command as that user, or set "
            "LAPTOP_HOME to your own folder"
        )
    if others_may_write(status):
        raise OperationError(
            f"other users may write to {folder}, whose files decide which processes are stopped: run "
            f"`chmod 700 {quote(str(folder))}` if you trust its content, or set LAPTOP_HOME to another folder"
        )


def require_safe_parent(folder: Path) -> None:
    """Require that no other user except root may replace what is in a folder.

    A sticky folder, such as /tmp, is safe.

    Raises:
        OperationError: Another user may replace it.
    """
    status = folder.stat()
    if status.st_uid not in (0, os.geteuid()):
        raise OperationError(
            f"{folder} belongs to the user {_user_name(status.st_uid)}, who may replace the home in it: set "
            "LAPTOP_HOME to another folder"
        )
    if others_may_write(status) and not status.st_mode & stat.S_ISVTX:
        raise OperationError(
            f"other users may write to {folder} and replace the home in it: run "
            f"`chmod go-w {quote(str(folder))}`, or set LAPTOP_HOME to another folder"
        )


def others_may_write(status: os.stat_result) -> bool:
    """Return whether a file's mode allows users other than its owner and root to write."""
    if status.st_mode & stat.S_IWOTH:
        return True
    return bool(status.st_mode & stat.S_IWGRP) and not _is_private(status.st_gid)


def _is_private(group_id: int) -> bool:
    """Return whether a group has no members except this user or root.

    Many systems create a group for each user and make new folders writable for it (umask 002).
    """
    me = _user_name(os.geteuid())
    try:
        group = grp.getgrgid(group_id)
    except KeyError:
        return False
    return group_id == 0 or (group.gr_name == me and set(group.gr_mem) <= {me})


def _user_name(number: int) -> str:
    try:
        return pwd.getpwuid(number).pw_name
    except KeyError:
        return str(number)
