"""What hosts show right now: one probe each, all at once."""

from __future__ import annotations

import json
from collections.abc import Collection
from dataclasses import dataclass, field
from typing import Any

from celium_ops.base.paths import collection_dir
from celium_ops.fleet.model import Host
from celium_ops.remote.ssh import ask

DEADLINE = 30.0


@dataclass(frozen=True)
class Container:
    """A container of one of our stacks.

    ``digest`` is the one a registry knows its image by, null for an image that came from none; ``outdated`` tells that
    it was made with another environment file than the one that is there.
    """

    name: str
    service: str
    image: str
    digest: str | None
    state: str
    health: str
    started_at: str
    outdated: bool

    @property
    def well(self) -> bool:
        """Tell whether it runs and its health check, if it has one, passes."""
        return self.state == "running" and self.health in ("healthy", "none")


@dataclass(frozen=True)
class Sight:
    """What one host showed. What could not be read is null; ``errors`` say why.

    ``environments`` are the SHA-1 digests of the stack's environment files, by file name; ``rentals`` the containers
    on an executor that tenants pay for.
    """

    reachable: bool
    environments: dict[str, str] | None = None
    containers: tuple[Container, ...] | None = None
    rentals: tuple[str, ...] | None = None
    registry: list[dict[str, Any]] | None = None
    errors: tuple[str, ...] = field(default=())


def probe(hosts: Collection[Host]) -> dict[str, Sight]:
    """Look at all hosts; one that does not answer is not reachable, with the reason."""
    # The same program that our Ansible modules import; it reads from stdin, so nothing is left on the host.
    source = (collection_dir() / "plugins" / "module_utils" / "probe.py").read_text()
    commands = {host.name: ["python3", "-I", "-S", "-", host.role, host.stack] for host in hosts}
    answers = ask({host.name: host.connection for host in hosts}, commands, source, DEADLINE)
    return {name: _sight(answer.output, answer.error) for name, answer in answers.items()}


def _sight(output: str | None, error: str | None) -> Sight:
    if output is None:
        return Sight(reachable=False, errors=(error or "no reason given",))
    try:
        seen = json.loads(output)
    except ValueError:
        return Sight(reachable=True, errors=(f"the probe said something else: {output.strip()[:200]}",))
    containers = seen["containers"]
    return Sight(
        reachable=True,
        environments=seen["environments"],
        containers=None if containers is None else tuple(Container(**container) for container in containers),
        rentals=None if seen["rentals"] is None else tuple(seen["rentals"]),
        registry=seen["registry"],
        errors=tuple(seen["errors"]),
    )
