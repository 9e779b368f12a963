"""Show what the containers of one host say."""

from __future__ import annotations

import difflib
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

from celium_ops.base.errors import CeliumError, UsageError
from celium_ops.fleet.contract import all_variables
from celium_ops.fleet.inventory import load_fleet
from celium_ops.fleet.model import Host
from celium_ops.remote.streams import Masked, Streams
from celium_ops.workflows.status import SERVICES

TAIL = 100
"""Lines of each service that are shown when the operator says nothing about it."""


@dataclass(frozen=True)
class Wish:
    """What the operator asked for; ``tail`` counts lines of each service, ``since`` is a time as Docker takes it."""

    inventory: Path
    host: str
    service: str | None = None
    follow: bool = False
    tail: int | None = None
    since: str | None = None


def show_logs(wish: Wish, streams: Streams) -> None:
    """Write the log lines of a host's stack to the streams, the fleet's secrets hidden.

    Raises:
        UsageError: the inventory is wrong, or there is no such host or service.
        CeliumError: the host cannot be reached, or has no logs to show.
        KeyboardInterrupt: ctrl-c, the way to stop following.
    """
    from celium_ops.remote.session import run

    host = load_fleet(wish.inventory).host(wish.host)
    _must_have(host, wish.service)
    out = Masked(streams.out, secrets(host))
    code = run(host, command(host, wish), replace(streams, out=out, stdin=None, terminal=False))
    out.end()
    if code:
        raise CeliumError(
            f"docker compose ended with {code}",
            host=host.name,
            remedy="celium-ops status shows what is there; celium-ops deploy brings up what is not",
            code="no-logs",
        )


def _must_have(host: Host, service: str | None) -> None:
    known = SERVICES[host.role]
    if service is not None and service not in known:
        near = difflib.get_close_matches(service, known, n=1)
        hint = f"; did you mean {near[0]}?" if near else ""
        raise UsageError(
            f"{host.name} has no service {service}{hint}",
            remedy=f"services of a host with role {host.role} are {', '.join(known)}",
            code="no-such-service",
        )


def command(host: Host, wish: Wish) -> list[str]:
    """Return what shows the logs on the host; pure."""
    folder = f"{host.values['celium_stack_dir']}/{host.role}"
    tail = wish.tail if wish.tail is not None else "all" if wish.since else TAIL
    words = ["docker", "compose", "-f", f"{folder}/compose.yml", "logs", "--tail", str(tail)]
    words += ["--follow"] if wish.follow else []
    words += ["--since", wish.since] if wish.since else []
    return [*words, wish.service] if wish.service else words


def secrets(host: Host) -> list[str]:
    """Return the secrets of a host that this machine knows: those of the inventory, and the generated ones."""
    known = [str(host.values[name]) for name, item in all_variables().items() if item.secret and host.values.get(name)]
    folder = Path(host.values["celium_secrets_dir"]).expanduser() / host.name
    for file in folder.glob("*"):
        with suppress(OSError):  # a file that we cannot read is nobody's secret that we could print
            known.append(file.read_text().strip())
    return known
