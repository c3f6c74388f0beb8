"""Who works in a folder: one process at a time, on whichever host it runs.

A claim is a small file that says who holds it. It comes into being by a hard link, which is atomic on network file
systems, too, where locks may be ignored; its holder touches it every BEAT_S seconds. It is taken over when its holder
is dead: a process of this machine that has ended, or one of another machine that has not touched it for STALE_S seconds
by the file server's own clock. So a process of this machine that lives is never robbed, however busy it is; one of
another machine only when it has been stopped, or cut off from the folder, for so long, and then check() tells it.
"""

from __future__ import annotations

import json
import os
import socket
import threading
import time
import uuid
from dataclasses import asdict, dataclass
from datetime import datetime, timezone
from pathlib import Path
from types import TracebackType

from robot.config import ConfigError

FILE = ".claim"
BEAT_S = 10.0
STALE_S = 120.0
POLL_S = 0.1
"""Between two looks at a claim that is waited for."""


class InUse(ConfigError):
    """Another process works in the folder."""


@dataclass(frozen=True, slots=True)
class Holder:
    """What a claim's file says."""

    what: str
    """Doing what."""
    host: str
    machine: str
    """Of this start of the machine, and this space of process numbers: only there `pid` means something."""
    pid: int
    born: str
    """When the process began, in the machine's own ticks: process numbers come again."""
    since: str
    token: str
    """Of this one claim."""

    def lives(self) -> bool | None:
        """Whether the process runs; None where that cannot be seen from here."""
        return _born(self.pid) == self.born if self.machine == _machine() else None


UNREADABLE = Holder("somebody", "an unknown host", "", 0, "", "an unknown time", "unreadable")
"""Of a claim whose writer was stopped within the one line; only where the file system has no links."""


class Claim:
    """A claim that this process holds, until release() or the end of the with block."""

    def __init__(self, path: Path, holder: Holder) -> None:
        self.path, self.holder = path, holder
        self._ended, self._lost = threading.Event(), False
        threading.Thread(target=self._beat, daemon=True, name="claim").start()

    def check(self) -> None:
        """InUse when the folder has been taken over because this process seemed dead."""
        if self._lost or not _is(self.path, self.holder.token):
            found = _read(self.path)
            raise InUse(
                f"{self.path.parent} was taken over{'' if found is None else ' by ' + _told(*found)}, because this "
                f"process gave no sign of life for {STALE_S:.0f} s: nothing more is written to it."
            )

    def release(self) -> None:
        """Give the folder back; safe to call twice."""
        if not self._ended.is_set():
            self._ended.set()
            if _is(self.path, self.holder.token):
                self.path.unlink(missing_ok=True)

    def _beat(self) -> None:
        while not self._ended.wait(BEAT_S):
            try:
                with self.path.open("rb") as file:
                    if json.load(file)["token"] != self.holder.token:
                        self._lost = True
                        return
                    os.utime(file.fileno())  # of this file: not of one that takes its place meanwhile
            except FileNotFoundError:
                self._lost = not self._ended.is_set()
                return
            except (OSError, ValueError):
                continue  # the server is away: the next beat may reach it

    def __enter__(self) -> Claim:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self.release()


def claim(folder: Path, what: str, patience_s: float = 0.0) -> Claim:
    """Take a folder; InUse tells in one sentence who has it, after waiting for it as long as `patience_s`."""
    end = time.monotonic() + patience_s
    while (taken := try_claim(folder, what)) is None:
        found = _read(folder / FILE)
        if found is not None and time.monotonic() >= end:
            raise InUse(f"{folder} is in use by {_told(*found)}: wait for it, or give another out=.")
        time.sleep(POLL_S)
    return taken


def try_claim(folder: Path, what: str) -> Claim | None:
    """Take a folder, or leave it to the live process that has it."""
    folder.mkdir(parents=True, exist_ok=True)
    mine = _me(what)
    return Claim(folder / FILE, mine) if _take(folder / FILE, mine) else None


def _take(path: Path, mine: Holder) -> bool:
    """Put a claim at `path`, unless somebody who may live has one there."""
    own = path.with_name(f"{path.name}.{uuid.uuid4().hex}.tmp")
    try:
        with own.open("w") as file:
            json.dump(asdict(mine), file)
        if _linked(own, path):
            return True
        found = _read(path)
        if found is None or not _dead(*found):
            return False
        # several may have seen that it is dead: who holds the right to replace this very claim does it
        right = path.with_name(f"{FILE}.{found[0].token}")
        if not _take(right, mine):
            return False
        try:
            if not _is(path, found[0].token):
                return False
            own.replace(path)
            return True
        finally:
            right.unlink(missing_ok=True)
    finally:
        own.unlink(missing_ok=True)


def _linked(own: Path, path: Path) -> bool:
    """Whether `path` is now the file `own`; it was absent."""
    try:
        os.link(own, path)
    except FileExistsError:
        return own.stat().st_nlink == 2  # the link was made, and the server's answer got lost
    except OSError:  # a file system without links
        try:
            with path.open("x") as file:
                file.write(own.read_text())
        except FileExistsError:
            return False
    return True


def _dead(holder: Holder, age_s: float) -> bool:
    lives = holder.lives()
    return age_s > STALE_S if lives is None else not lives


def _read(path: Path) -> tuple[Holder, float] | None:
    """Who holds a claim, and how long ago it was touched [s]; None where there is none."""
    found = _open(path)
    if found is None:
        return None
    beside = path.with_name(f"{path.name}.{uuid.uuid4().hex}.now")
    beside.touch()
    try:
        return found[0], max(beside.stat().st_mtime - found[1], 0.0)
    finally:
        beside.unlink(missing_ok=True)


def _open(path: Path) -> tuple[Holder, float] | None:
    """Who holds a claim, and when it was touched by the file server's clock; None where there is none."""
    try:
        with path.open("rb") as file:  # opening asks the server anew, a path's age may be a remembered one
            data, touched = file.read(), os.fstat(file.fileno()).st_mtime
    except FileNotFoundError:
        return None
    try:
        return Holder(**json.loads(data)), touched
    except (ValueError, TypeError):
        return UNREADABLE, touched


def _is(path: Path, token: str) -> bool:
    found = _open(path)
    return found is not None and found[0].token == token


def _told(holder: Holder, age_s: float) -> str:
    seen = "" if holder.lives() else f", last sign of life {age_s:.0f} s ago"
    return f"{holder.what} on {holder.host}, process {holder.pid}, since {holder.since}{seen}"


def _me(what: str) -> Holder:
    since = datetime.now(timezone.utc).isoformat(timespec="seconds")
    pid = os.getpid()
    return Holder(what, socket.gethostname(), _machine(), pid, _born(pid) or "", since, uuid.uuid4().hex)


def _machine() -> str:
    """This machine since its start, and this space of process numbers (containers have their own)."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        return f"{boot} {Path('/proc/self/ns/pid').readlink()}"
    except OSError:
        return f"{socket.gethostname()} {uuid.getnode():x}"


def _born(pid: int) -> str | None:
    """When a process of this machine began; None when there is none, or nothing is left of it but its status."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        if Path("/proc/self/stat").exists():
            return None
        return _answers(pid)
    state, *rest = text.rpartition(")")[2].split()
    return None if state in "ZX" else rest[18]


def _answers(pid: int) -> str | None:
    """The same where there is no /proc, without the time."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return None
    except PermissionError:
        pass
    return ""
