"""Who may write to a folder, and so decide what a command finds there."""

import grp
import os
import pwd
import stat
from pathlib import Path
from shlex import quote

from infra.errors import OperationError


def require_own(folder: Path) -> None:
    """Require that a folder is this user's, and that no other user may write to it.

    Raises:
        OperationError: It is not.
    """
    status = folder.stat()
    if not stat.S_ISDIR(status.st_mode):
        raise OperationError(f"{folder} is not a folder: name another one with LAPTOP_HOME")
    if status.st_uid != os.geteuid():
        raise OperationError(
            f"{folder} belongs to the user {_user_name(status.st_uid)}: run the command as that user, or name your own "
            "folder with LAPTOP_HOME"
        )
    if others_may_write(status):
        raise OperationError(
            f"other users may write to {folder}, and its files decide which processes are stopped: run "
            f"`chmod 700 {quote(str(folder))}` if you trust what is in it, or name another folder with LAPTOP_HOME"
        )


def require_safe_parent(folder: Path) -> None:
    """Require that no other user but root may replace what is in a folder; in a sticky one, such as /tmp, no one may.

    Raises:
        OperationError: Another user may.
    """
    status = folder.stat()
    if status.st_uid not in (0, os.geteuid()):
        raise OperationError(
            f"{folder} belongs to the user {_user_name(status.st_uid)}, who may replace the home in it: name another "
            "folder with LAPTOP_HOME"
        )
    if others_may_write(status) and not status.st_mode & stat.S_ISVTX:
        raise OperationError(
            f"other users may write to {folder}, and so replace the home in it: run "
            f"`chmod go-w {quote(str(folder))}`, or name another folder with LAPTOP_HOME"
        )


def others_may_write(status: os.stat_result) -> bool:
    """Say whether the mode of a file lets other users than its owner and root write."""
    if status.st_mode & stat.S_IWOTH:
        return True
    return bool(status.st_mode & stat.S_IWGRP) and not _is_private(status.st_gid)


def _is_private(group_id: int) -> bool:
    """Say whether a group has no member but this user or root.

    Many systems give each user a group of the same name, and new folders are open to it (umask 002).
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
