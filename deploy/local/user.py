"""Whom the servers run as: never root. PostgreSQL refuses it, and the others do not need it."""

from __future__ import annotations

import os
import pwd
from dataclasses import dataclass
from pathlib import Path

from deploy.local.errors import StackError


@dataclass(frozen=True)
class ServiceUser:
    """An unprivileged account and why it was chosen."""

    name: str
    uid: int
    gid: int
    why: str

    @property
    def dropped(self) -> bool:
        """Whether starting a server means giving up root first."""
        return os.geteuid() == 0

    def own(self, path: Path) -> None:
        """Hand one file or folder to the account; nothing to do when we already are it."""
        if self.dropped:
            os.chown(path, self.uid, self.gid)

    def can_enter(self, folder: Path) -> bool:
        """Whether the account can reach into ``folder``: every existing folder on the way lets it pass.

        For ourselves that is always so.
        """
        if not self.dropped:
            return True
        return self.blocked_by(folder) is None

    def blocked_by(self, folder: Path) -> Path | None:
        """Return the first folder on the way to ``folder`` that the account may not enter."""
        for step in [*reversed(folder.absolute().parents), folder.absolute()]:
            if not step.exists():
                return None
            stat = step.stat()
            bit = 0o100 if stat.st_uid == self.uid else 0o010 if stat.st_gid == self.gid else 0o001
            if not stat.st_mode & bit:
                return step
        return None


def choose() -> ServiceUser:
    """Return who runs the servers: ourselves, or as root the user behind sudo, ``keepwell``, or ``nobody``.

    Raises:
        StackError: root, and none of these accounts exists.
    """
    if os.geteuid() != 0:
        me = pwd.getpwuid(os.geteuid())
        return ServiceUser(me.pw_name, me.pw_uid, me.pw_gid, "the user who called")
    behind_sudo = os.environ.get("SUDO_USER", "")
    for name, why in (
        (behind_sudo, "the user behind sudo"),
        ("keepwell", "the account of that name"),
        ("nobody", "root was dropped and there is no account named keepwell"),
    ):
        try:
            entry = pwd.getpwnam(name) if name else None
        except KeyError:
            continue
        if entry is not None and entry.pw_uid != 0:
            return ServiceUser(entry.pw_name, entry.pw_uid, entry.pw_gid, why)
    msg = "root may not run the servers and there is no account nobody or keepwell; useradd --system keepwell"
    raise StackError(msg)
