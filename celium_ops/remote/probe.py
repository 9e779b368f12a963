"""What hosts show right now: one probe each, all at once."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from celium_ops.base.paths import collection_dir
from celium_ops.remote.ssh import Target, ask

DEADLINE = 30.0


@dataclass(frozen=True)
class Container:
    """A container of one of our stacks."""

    name: str
    service: str
    image: str
    digest: str
    state: str
    health: str
    started_at: str

    @property
    def well(self) -> bool:
        """Tell whether it runs and its health check, if it has one, passes."""
        return self.state == "running" and self.health in ("healthy", "none")


@dataclass(frozen=True)
class Sight:
    """What one host showed. What could not be read is null; ``errors`` say why."""

    reachable: bool
    containers: tuple[Container, ...] | None = None
    registry: list[dict[str, Any]] | None = None
    errors: tuple[str, ...] = field(default=())


def probe(targets: Mapping[str, Target], roles: Mapping[str, str]) -> dict[str, Sight]:
    """Look at all hosts, by name; a host that does not answer is not reachable, with the reason."""
    # The same program that our Ansible modules import; it reads from stdin, so nothing is left on the host.
    source = (collection_dir() / "plugins" / "module_utils" / "probe.py").read_text()
    commands = {name: ["python3", "-I", "-S", "-", roles[name]] for name in targets}
    answers = ask(targets, commands, source, DEADLINE)
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
        containers=None if containers is None else tuple(Container(**container) for container in containers),
        registry=seen["registry"],
        errors=tuple(seen["errors"]),
    )
