"""What Ansible answered about an inventory, kept for as long as everything that it looked at is as it was.

An entry holds the answer and every file, folder, path and variable of the environment that the helper process looked
at (``witness.py``), each with what it was. It counts while all of them are the same, by content, not by time.
"""

from __future__ import annotations

import hashlib
import json
import os
import pwd
import stat
import sys
import sysconfig
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from celium_ops.base.files import write_atomic
from celium_ops.base.paths import cache_dir

KEPT = 32
"""Entries that are kept, the newest first; an inventory has one."""

_SOURCES = ("ansible_inventory.py", "cache.py", "duplicate_keys.py", "witness.py")
_START = ("LANG", "LC_", "PYTHON", "TZ")
"""Variables of the environment that an interpreter reads before anybody can watch it."""


def digest(content: bytes | str) -> str:
    """Return a digest of what something is."""
    return hashlib.sha256(content.encode(errors="surrogateescape") if isinstance(content, str) else content).hexdigest()


def installation() -> list[str]:
    """Return the folders of installed code, each with a slash at its end: what lies there goes with its version."""
    sites = [path for path in sys.path if Path(path).name in ("site-packages", "dist-packages")]
    return [f"{path}{os.sep}" for path in (*sites, sysconfig.get_path("stdlib"), sysconfig.get_path("platstdlib"))]


def read(name: str) -> bytes | None:
    """Return what stands in a file; none for a pipe or a device, which says something else each time.

    Raises:
        OSError: it cannot be read.
    """
    # Without waiting: a pipe that nobody writes to would hold us for ever.
    descriptor = os.open(name, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    with os.fdopen(descriptor, "rb") as stream:
        return stream.read() if stat.S_ISREG(os.fstat(descriptor).st_mode) else None


def _file(name: str) -> str | None:
    content = read(name)
    return None if content is None else digest(content)


def _folder(name: str) -> str:
    with os.scandir(name) as entries:
        return digest(json.dumps(sorted((entry.name, entry.is_dir()) for entry in entries)))


_LOOKS: dict[str, Callable[[str], str | int | None]] = {
    "access": lambda name: os.access(name.partition(":")[2], int(name.partition(":")[0])),
    "file": _file,
    "folder": _folder,
    "getpwnam": lambda name: digest(str(pwd.getpwnam(name))),
    "getpwuid": lambda name: digest(str(pwd.getpwuid(int(name)))),
    "lstat": lambda name: os.lstat(name).st_mode,
    "readlink": os.readlink,
    "stat": lambda name: os.stat(name).st_mode,  # noqa: PTH116 - a name is taken as it was given
}


def look(kind: str, name: str, environment: Mapping[str, str]) -> str | int | None:
    """Return what something is now, in a form that can be compared: a missing or unreadable thing is its errno.

    Args:
        kind: ``file`` (its content), ``folder`` (what is in it), ``stat``, ``lstat`` (kind and permissions),
            ``readlink``, ``access`` (the name is ``mode:path``), ``getpwnam`` or ``getpwuid`` (an account of this
            machine) or ``variable`` (of the environment).
        name: its path, or the name of the account or the variable.
        environment: the environment of the helper process.
    """
    if kind == "variable":
        # A variable may hold a secret that nothing here needs to know.
        return digest(environment[name]) if name in environment else None
    try:
        return _LOOKS[kind](name)
    except OSError as error:
        return -(error.errno or 1)
    except KeyError:  # no such account
        return None


def recall(inventory: Path, question: dict[str, Any], environment: Mapping[str, str]) -> dict[str, Any] | None:
    """Return what Ansible answered before, if it would answer the same now; else nothing.

    An entry that is damaged, or that somebody else could have written, is none.
    """
    try:
        sign, _, body = _own(_place(inventory)).partition(b"\n")
        entry = json.loads(body) if sign == digest(body).encode() else {}
        if entry.get("frame") != _frame(question, environment):
            return None
        if any(look(kind, name, environment) != was for kind, name, was in entry["seen"]):
            return None
        hosts: dict[str, Any] = entry["hosts"]
    except (OSError, ValueError):
        return None
    return hosts


def keep(
    inventory: Path, question: dict[str, Any], environment: Mapping[str, str], seen: list[Any], hosts: dict[str, Any]
) -> None:
    """Keep an answer of Ansible's, readable by us alone. A cache that cannot be written costs time, nothing else.

    Args:
        inventory: the inventory it is about.
        question: what was asked.
        environment: the environment of the helper process.
        seen: what that process looked at: kind, name, and what it was, as ``look`` says it.
        hosts: the answer.
    """
    place = _place(inventory)
    with suppress(OSError):
        body = json.dumps({"frame": _frame(question, environment), "seen": seen, "hosts": hosts}).encode()
        place.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        if os.lstat(place.parent).st_uid == os.geteuid():
            place.parent.chmod(0o700)
            write_atomic(place, digest(body).encode() + b"\n" + body, mode=0o600)
            for old in sorted(place.parent.iterdir(), key=os.path.getmtime, reverse=True)[KEPT:]:
                old.unlink()


def _place(inventory: Path) -> Path:
    return cache_dir() / "inventories" / f"{digest(str(inventory.absolute()))[:32]}.json"


def _own(place: Path) -> bytes:
    """Return the bytes of a file that only we can have written.

    Raises:
        OSError: it is not there, or not ours alone.
    """
    with os.fdopen(os.open(place, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC), "rb") as stream:
        for found in (os.lstat(place.parent), os.fstat(stream.fileno())):
            if found.st_uid != os.geteuid() or stat.S_IMODE(found.st_mode) & 0o077:
                raise PermissionError(f"{place} is not ours alone")
        return stream.read()


def _frame(question: dict[str, Any], environment: Mapping[str, str]) -> str:
    """Return a digest of what an answer depends on without anybody looking at it: who asks what, where, with what."""
    folder = Path(__file__).parent
    frame = {
        "question": question,
        "who": os.geteuid(),
        "where": str(Path.cwd()),
        "python": [sys.executable, sys.version],
        "packages": [_packages(path) for path in installation()],
        "sources": [_file(str(folder / name)) for name in _SOURCES],
        "environment": {name: value for name, value in environment.items() if name.startswith(_START)},
    }
    return digest(json.dumps(frame, sort_keys=True))


def _packages(path: str) -> tuple[str, list[str]]:
    """Return a folder of installed packages and what is in it: each has a folder there that is named by its version."""
    names = os.listdir(path) if Path(path).is_dir() else []  # noqa: PTH208 - names are all it takes
    return path, sorted(name for name in names if name.endswith((".dist-info", ".egg-info", ".pth")))
