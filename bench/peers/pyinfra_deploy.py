"""A peer of `celium-ops deploy`: what the records of our hosts hold, said by pyinfra, on hosts that have it.

Each host's ``things`` are those of its record (``plugins/module_utils/managed.py``); ``copies`` is the folder of what
its files shall hold. It asks less than we do: no builds of programs, no times of configurations, no tenants, no
registry of the miner.
"""

import shlex
from pathlib import Path

from pyinfra import host
from pyinfra.facts.docker import DockerContainers
from pyinfra.facts.files import File
from pyinfra.facts.server import Command
from pyinfra.operations import apt, files, server, systemd

_PROJECT, _CONFIGURATION = "com.docker.compose.project", "com.docker.compose.config-hash"
_ENVIRONMENT = "org.celium-ops.environment"


def owned(state):
    """Return the attributes of a file or a folder as pyinfra names them."""
    return {"mode": state["mode"].lstrip("0"), "user": state["owner"], "group": state["group"]}


def copied(name, **attributes):
    """Have a file as it was copied."""
    source = Path(host.data.copies) / host.name / name.replace("/", "+")
    files.put(name=name, src=str(source), dest=name, **attributes)


def lines(name, state):
    """Have some lines in a file."""
    for line in state:
        files.line(name=f"{name}: {line}", path=name, line=line)


def present(name, state):
    """Have something, or not; of a device pyinfra can only be asked."""
    if state is None:
        files.file(name=name, path=name, present=False)
    else:
        host.get_fact(File, path=name)


def unit(name, state):
    """Have a unit run."""
    enabled = {"enabled": True, "disabled": False}.get(state["enabled"])
    systemd.service(name=name, service=name, running=state["active"] == "active", enabled=enabled)


def holds(state):
    """Have packages, held as they were."""
    apt.packages(name="packages", packages=sorted(state), update=False)
    held = {*host.get_fact(Command, "apt-mark showhold").split()}
    missing = sorted(name for name, package in state.items() if package["held"] and name not in held)
    if missing:
        server.shell(name="holds", commands=[f"apt-mark hold {shlex.join(missing)}"])


def project(name, state):
    """Have the containers of a stack run, made as they were."""
    ours = [one for one in host.get_fact(DockerContainers) if labels_of(one).get(_PROJECT) == name]
    if state != {one["Name"].lstrip("/"): container(one) for one in ours}:
        server.shell(name="stack", commands=[f"docker compose -f /opt/celium/{name}/compose.yml up --wait"])


def labels_of(details):
    """Return the labels of a container; Docker may have null for none."""
    return details["Config"]["Labels"] or {}


def container(details):
    """Return what a record keeps of a container."""
    state, labels = details["State"], labels_of(details)
    return {
        "state": state["Status"],
        "health": state.get("Health", {}).get("Status", "none"),
        "image": details["Image"],
        "configuration": labels.get(_CONFIGURATION),
        "environment": labels.get(_ENVIRONMENT),
        "networks": sorted(details["NetworkSettings"]["Networks"]),
        "once": labels.get("com.docker.compose.oneoff") == "True",
    }


for thing in host.data.things:
    kind, name, state = (thing[key] for key in ("kind", "name", "state"))
    if kind == "directory":
        files.directory(name=name, path=name, **owned(state))
    elif kind in ("environment", "file"):
        copied(name, **owned(state))
    elif kind == "keys":
        copied(name)
    elif kind == "program":
        files.file(name=name, path=state["path"])
    elif kind == "lines":
        lines(name, state)
    elif kind == "present":
        present(name, state)
    elif kind == "unit":
        unit(name, state)
    elif kind == "holds":
        holds(state)
    elif kind == "project":
        project(name, state)
    elif kind != "address":  # of a file that is there already
        raise ValueError(kind)
