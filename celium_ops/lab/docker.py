"""The docker client, with argument lists in and errors that say what failed out."""

from __future__ import annotations

import functools
import json
import subprocess
from collections.abc import Mapping, Sequence
from typing import Any

from celium_ops.base.errors import CeliumError
from celium_ops.lab.process import run

LABEL = "org.celium-ops.lab"


@functools.cache
def prefix() -> tuple[str, ...]:
    """Return how docker is called: as we are, or through ``sudo -n``.

    Raises:
        CeliumError: no engine answers either way.
    """
    for command in (("docker",), ("sudo", "-n", "docker")):
        if answers(command):
            return command
    raise CeliumError(
        "no Docker engine answers this user",
        remedy="run `celium-ops lab up`, as root, with sudo that needs no password, or as a member of the group docker",
        code="no-docker",
    )


def answers(command: Sequence[str] = ("docker",)) -> bool:
    """Tell whether an engine stands behind the client; a client alone proves nothing."""
    try:
        done = run([*command, "info", "--format", "{{.ServerVersion}}"], check=False, timeout=20)
    except CeliumError:
        return False
    return done.returncode == 0 and bool(done.stdout.strip())


def docker(
    *arguments: str, stdin: bytes | None = None, check: bool = True, timeout: float | None = None
) -> subprocess.CompletedProcess[bytes]:
    """Run ``docker ARGUMENTS`` and return what it said.

    Raises:
        CeliumError: it failed and ``check`` is set.
    """
    return run([*prefix(), *arguments], stdin=stdin, check=check, timeout=timeout)


def text(*arguments: str) -> str:
    """Run ``docker ARGUMENTS`` and return its output, stripped."""
    return docker(*arguments).stdout.decode().strip()


def image_id(reference: str) -> str | None:
    """Return the id of a local image; None when there is none of that name."""
    done = docker("image", "inspect", "--format", "{{.Id}}", reference, check=False)
    return done.stdout.decode().strip() if done.returncode == 0 else None


def labels(lab: str, extra: Mapping[str, str] | None = None) -> list[str]:
    """Return the options that mark a thing as the lab's: nothing without the mark is ever touched."""
    return [f"--label={key}={value}" for key, value in {LABEL: lab, **(extra or {})}.items()]


def names(kind: str, lab: str) -> list[str]:
    """Return the names of the lab's own things of a kind: ``container``, ``network`` or ``volume``."""
    everything = ["--all"] if kind == "container" else []
    field = "{{.Names}}" if kind == "container" else "{{.Name}}"
    return text(kind, "ls", *everything, "--filter", f"label={LABEL}={lab}", "--format", field).split()


def inspect(kind: str, *things: str) -> list[dict[str, Any]]:
    """Return what the engine knows about these things; those that are not there are left out."""
    if not things:
        return []
    done = docker(kind, "inspect", *things, check=False)
    found: list[dict[str, Any]] = json.loads(done.stdout or b"[]")
    return found


_THAW = """\
thaw() {
    state=/sys/fs/cgroup/freezer$(sed -n 's/^[0-9]*:freezer://p' /proc/$1/cgroup)/freezer.state
    [ "$(cat "$state" 2>/dev/null)" != FROZEN ] || echo THAWED > "$state"
    for child in $(cat /proc/$1/task/*/children 2>/dev/null); do thaw "$child"; done
}
thaw "$0"
"""


def thaw(*containers: str) -> None:
    """Wake whatever is paused inside containers: with cgroups of version 1 it could not be killed, nor they removed."""
    for container in inspect("container", *containers):
        if container["State"]["Pid"]:
            run(["sh", "-c", _THAW, str(container["State"]["Pid"])], root=True, check=False)
