"""What preflight asks of hosts: one survey each, all at once, and which of their ports can be reached from here."""

from __future__ import annotations

import json
import secrets
import socket
from collections.abc import Collection, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cache
from importlib import import_module, resources
from pathlib import Path
from typing import Any

import yaml

from celium_ops.base.paths import collection_dir
from celium_ops.fleet.model import Host
from celium_ops.remote.conversation import Conversation
from celium_ops.remote.program import program, shared
from celium_ops.remote.ssh import ask

DEADLINE = 40.0
REACH_WITHIN = 3.0
"""Seconds for a connection to a port, and its answer."""
LISTEN_FOR = 30
"""Seconds after which a listener goes away, whatever happened to us."""
START_WITHIN = 12.0

_GPU_MODULES = ("pynvml", "celium_ops.gpu.nvml", "celium_ops.gpu.views")


@dataclass(frozen=True)
class Seen:
    """What a host showed; ``facts`` are null when it did not answer, for the reason in ``error``.

    ``at`` is the time here when the answer came, in seconds since 1970.
    """

    facts: dict[str, Any] | None
    error: str | None
    at: float


def survey(hosts: Collection[Host]) -> dict[str, Seen]:
    """Look at hosts, all at once."""
    with_gpus = [host for host in hosts if host.role == "executor"]
    others = [host for host in hosts if host.role != "executor"]
    with ThreadPoolExecutor(2) as pool:
        parts = pool.map(_survey, (with_gpus, others), (True, False))
        return {name: seen for part in parts for name, seen in part.items()}


def _survey(hosts: Collection[Host], gpus: bool) -> dict[str, Seen]:
    commands = {host.name: ["python3", "-I", "-S", "-", json.dumps(_asked(host, gpus))] for host in hosts}
    answers = ask({host.name: host.connection for host in hosts}, commands, _program(gpus), DEADLINE)
    found = {}
    for name, answer in answers.items():
        try:
            facts = None if answer.output is None else json.loads(answer.output)
            found[name] = Seen(facts, answer.error, answer.at)
        except ValueError:
            found[name] = Seen(None, f"the survey said something else: {str(answer.output).strip()[:200]}", answer.at)
    return found


def _asked(host: Host, gpus: bool) -> dict[str, Any]:
    return {
        "stack": host.stack,
        "wallets": str(host.values.get(f"{host.role}_wallet_dir", "/root/.bittensor/wallets")),
        "gpus": gpus,
        **_guarded(),
    }


@cache
def _guarded() -> dict[str, list[str]]:
    """Return the patterns of the packages that deploys hold, from the role that does it."""
    role = yaml.safe_load((collection_dir() / "roles" / "nvidia_docker" / "vars" / "main.yml").read_text())
    return {
        "packages": role["_nvidia_docker_guarded"],
        "kernel_packages": role["_nvidia_docker_guarded_kernel"],
    }


@cache
def _program(gpus: bool) -> str:
    names = ("probe", *(("celium_ops", "celium_ops.gpu", *_GPU_MODULES) if gpus else ()))
    return program("survey", {name: _source(name) for name in names})


def _source(name: str) -> str:
    if name == "probe":
        return shared(name)
    if name not in _GPU_MODULES:
        return ""
    file = import_module(name).__file__
    return Path(str(file)).read_text()


@dataclass(frozen=True)
class Way:
    """Ports of a host on one way to it.

    Attributes:
        listening: where somebody of ours listened, and of those ``reached`` from here.
        taken: ports that something else has.
        error: why nobody could listen, if so.
    """

    listening: tuple[int, ...] = ()
    reached: tuple[int, ...] = ()
    taken: tuple[int, ...] = ()
    error: str | None = None


def reach(address: str, port: int, answer: str | None = None) -> bool:
    """Tell whether a port can be connected to from here and, where one is expected, gives this answer."""
    try:
        with socket.create_connection((address, port), REACH_WITHIN) as connection:
            connection.settimeout(REACH_WITHIN)
            return answer is None or connection.recv(len(answer), socket.MSG_WAITALL).decode() == answer
    except (OSError, UnicodeDecodeError):
        return False


def host_way(host: Host, address: str, ports: Sequence[tuple[int, int]]) -> Way:
    """Try ports on which a program of the host itself listens; pairs of the port there and as the world sees it."""
    return _try(host, address, ports, ["python3", "-I", "-S", "-c", _listener()])


def published_way(host: Host, address: str, ports: Sequence[tuple[int, int]], image: str) -> Way:
    """Try ports that Docker publishes for a container of an image that is on the host."""
    published = [part for inside, _ in ports for part in ("-p", f"{inside}:{inside}")]
    quiet = ["--pull", "never", "--log-driver", "none", "--label", "org.celium-ops.preflight"]
    run = ["docker", "run", "--rm", "-i", *quiet, *published, "--entrypoint", "python3", image]
    return _try(host, address, ports, [*run, "-I", "-S", "-c", _listener()])


def _listener() -> str:
    return resources.files("celium_ops.remote.on_host").joinpath("listen.py").read_text()


def _try(host: Host, address: str, ports: Sequence[tuple[int, int]], command: list[str]) -> Way:
    answer = secrets.token_hex(8)
    asked = {"ports": [inside for inside, _ in ports], "answer": answer, "seconds": LISTEN_FOR}
    try:
        with Conversation(host, [*command, json.dumps(asked)]) as line:
            said, _ = line.receive(START_WITHIN)
            listening = set(said["listening"])
            outside = [port for inside, port in ports if inside in listening]
            with ThreadPoolExecutor(max(1, len(outside))) as pool:
                reached = pool.map(lambda port: reach(address, port, answer), outside)
                found = tuple(port for port, well in zip(outside, reached, strict=True) if well)
    except (ConnectionError, TimeoutError) as error:
        return Way(error=str(error) or "it did not begin in time")
    return Way(tuple(outside), found, tuple(said["taken"]))
