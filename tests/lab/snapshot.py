"""A whole host in one look, to see what a deploy changed there: files, packages that are held, units, containers."""

from __future__ import annotations

import json
from typing import Any

NOT_OURS = (
    "/etc/apt/",  # sources and keyrings are for the installation; later nothing is enforced of them
    "/etc/alternatives/",
    "/etc/apparmor.d/local/",
    "/etc/chrony/",  # made by its package; ours is that it runs
    "/etc/default/chrony.dpkg-dist",  # the lab's hosts have their own file there
    "/etc/cni/",  # Docker's own
    "/etc/systemd/system/",  # links of enabled units, which are compared as units
    "/etc/ld.so.cache",
    "/etc/rc",  # links of enabled units, as before
    "/etc/passwd",  # users and groups of packages
    "/etc/group",
    "/etc/gshadow",
    "/etc/shadow",
    "/etc/subuid",
    "/etc/subgid",
    "/etc/.pwd.lock",
    "/home/operator/",  # where Ansible works
    "/opt/containerd/",
    "/root/.ansible/",
    "/root/.docker/",
    "/tmp/",
    "/var/cache/",
    "/var/lib/apt/",
    "/var/lib/celium-ops/",  # the record itself
    "/var/lib/chrony/",
    "/var/lib/containerd/",
    "/var/lib/docker/",
    "/var/lib/dpkg/",
    "/var/lib/systemd/",
    "/var/lib/ucf/",
    "/var/log/",
    "/var/tmp/",
)
_FILES = "find / -xdev -type d -printf '%p|%m|%U|%G|d\\n' -o -printf '%p|%m|%U|%G|%s %T@ %l\\n'"
_LOOKS = {
    "files": _FILES,
    "held": "apt-mark showhold",
    "enabled": "systemctl list-unit-files --state enabled --plain --no-legend | cut -d' ' -f1",
    "containers": "docker ps -a --format '{{.Names}}' 2>/dev/null || true",
}
Snapshot = dict[str, dict[str, str]]


def snapshot(fleet: Any, host: str) -> Snapshot:
    """Return all that a host has, each thing with what would change when somebody changed it."""
    return {
        kind: dict(line.partition("|")[::2] for line in fleet.on(host, look).splitlines())
        for kind, look in _LOOKS.items()
    }


def changed(before: Snapshot, after: Snapshot, kind: str) -> set[str]:
    """Return what is new, gone or different of one kind."""
    return {name for name in {*before[kind], *after[kind]} if before[kind].get(name) != after[kind].get(name)}


def unrecorded(fleet: Any, host: str, before: Snapshot) -> dict[str, set[str]]:
    """Return what changed on a host since ``before`` that neither its record nor a package accounts for."""
    after = snapshot(fleet, host)
    things = json.loads(fleet.on(host, "cat /var/lib/celium-ops/record.json"))["things"]
    named = {thing["name"] for thing in things}
    held = {
        name for thing in things if thing["kind"] == "holds" for name, state in thing["state"].items() if state["held"]
    }
    running = {name for thing in things if thing["kind"] == "project" for name in thing["state"]}
    packaged = set(fleet.on(host, "cat /var/lib/dpkg/info/*.list").splitlines())
    units = {name.rpartition("/")[2] for name in packaged}
    files = changed(before, after, "files") - named - packaged - {f"/usr{name}" for name in packaged}
    return {
        "files": {one for one in files if not (_is_known(one) or any(name.startswith(f"{one}/") for name in named))},
        "held": changed(before, after, "held") - held,
        "enabled": changed(before, after, "enabled") - named - units,
        "containers": changed(before, after, "containers") - running,
    }


def _is_known(path: str) -> bool:
    return f"{path}/".startswith(NOT_OURS) or "/__pycache__" in path
