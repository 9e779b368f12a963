"""What hosts show right now: one probe each, all at once."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Collection, Mapping
from concurrent.futures import Future
from dataclasses import dataclass, field
from functools import cache
from typing import Any

from celium_ops.fleet.model import Host
from celium_ops.remote.program import asking, program, shared
from celium_ops.remote.ssh import Answer, ask

MODULES, LOG_MODULES = ("tenancy", "probe", "managed"), ("miner_log",)
"""What goes along to the host, in the order of their imports; the second where the log of a miner is read."""
DEADLINE = 30.0
MOST_WAITS, LONGEST_WORD = 50, 200
"""How many changes that wait are taken from a host, and how many characters of each word about them."""
MARK = "\n--- celium-ops ---\n"


@dataclass(frozen=True)
class Container:
    """A container of one of our stacks.

    ``digest`` is the one a registry knows its image by, null for an image that came from none; ``outdated`` tells that
    it was made with another environment file than the one that is there. ``health`` is Docker's word for it, or that it
    is cut off from Docker; ``complaint`` what the check of an unhealthy one says of its GPUs.
    """

    name: str
    service: str
    image: str
    digest: str | None
    state: str
    health: str
    started_at: str
    outdated: bool
    complaint: str | None = None

    @property
    def well(self) -> bool:
        """Tell whether it runs and its health check, if it has one, passes."""
        return self.state == "running" and self.health in ("healthy", "none")


Seal = dict[str, Any]
"""For which inputs a record holds: keyed digests, and their key."""


@dataclass(frozen=True)
class Wait:
    """A change that waits for the end of a rental: of what, what would be done to it, and whose rental it is."""

    kind: str
    name: str
    why: str
    until: str


def waits(said: object) -> tuple[Wait, ...]:
    """Read the changes that wait from what a host says, bounded and printable; what is none is left out."""
    keys = ("kind", "name", "why", "until")
    entries = [one for one in said[:MOST_WAITS] if isinstance(one, dict)] if isinstance(said, list) else []
    found = ([one.get(key) for key in keys] for one in entries)
    return tuple(Wait(*map(_shown, words)) for words in found if all(isinstance(word, str) for word in words))


def _shown(word: object) -> str:
    return "".join(sign if sign.isprintable() else "?" for sign in str(word)[:LONGEST_WORD])


@dataclass(frozen=True)
class Record:
    """What the last apply left on a host, compared with what is there.

    ``seal`` is null when nobody has said for which inputs it holds; ``drift`` is what differs, as ``managed`` tells it;
    ``waits`` are the changes that the apply left for the end of a rental.
    """

    seal: Seal | None
    drift: tuple[dict[str, Any], ...]
    waits: tuple[Wait, ...] = ()


@dataclass(frozen=True)
class Sight:
    """What one host showed. What could not be read is null; ``errors`` say why.

    ``environments`` are the SHA-1 digests of the stack's environment files, by file name; ``rentals`` the containers
    on an executor that tenants pay for; ``chain`` is why a miner cannot use the chain, in upstream's words, null where
    nothing says so or the log was not asked for; ``record`` is null too where no apply left one, and ``record_error``
    tells why where there is one.
    """

    reachable: bool
    environments: dict[str, str] | None = None
    containers: tuple[Container, ...] | None = None
    rentals: tuple[str, ...] | None = None
    registry: list[dict[str, Any]] | None = None
    chain: str | None = None
    record: Record | None = None
    record_error: str | None = None
    errors: tuple[str, ...] = field(default=())


def probe(
    hosts: Collection[Host],
    seals: Mapping[str, Seal] | None = None,
    on_sight: Callable[[str, Sight], None] = lambda _name, _sight: None,
    after: Future[None] | None = None,
    logs: bool = False,
) -> dict[str, Sight]:
    """Look at all hosts; one that does not answer is not reachable, with the reason.

    ``seals`` are put on the records of hosts that are still as recorded; ``on_sight`` hears of each host as it answers;
    no host is looked at before ``after`` is done. With ``logs`` the logs of miners are read too.
    """
    programs = {host.name: _asking(host, (seals or {}).get(host.name), logs and host.role == "miner") for host in hosts}
    commands = {host.name: ["python3", "-I", "-S", "-"] for host in hosts}
    sights: dict[str, Sight] = {}

    def see(name: str, answer: Answer) -> None:
        sights[name] = _sight(answer.output, answer.error)
        on_sight(name, sights[name])

    ask({host.name: host.connection for host in hosts}, commands, programs, DEADLINE, see, after)
    return {host.name: sights[host.name] for host in hosts}


_MESSAGE = re.compile(r"[\[\]\w ]{1,80}")
"""What upstream's messages are made of; a host that says something else says nothing."""


def _asking(host: Host, seal: Seal | None, log: bool) -> str:
    asked = {"role": host.role, "stack": host.stack, "mark": MARK, "seal": seal, "log": log}
    return asking(_program(log), asked)


@cache
def _program(log: bool) -> str:
    """Return the program that looks at a host; it reads a miner's log only where ``log`` asks for that."""
    return program("look", {name: shared(name) for name in (*MODULES, *(LOG_MODULES if log else ()))})


def _sight(output: str | None, error: str | None) -> Sight:
    if output is None:
        return Sight(reachable=False, errors=(error or "no reason given",))
    try:
        return _seen(json.loads(output.rpartition(MARK)[2]))
    except (ValueError, KeyError, TypeError, AttributeError):
        words = f"the probe said something else: {output.strip()[:200]}"
        return Sight(reachable=True, errors=(words,), record_error=words)


def _seen(seen: dict[str, Any]) -> Sight:
    containers, record, chain = seen["containers"], seen["record"], seen.get("chain")
    if record and record["seal"]:
        dict(record["seal"]["digests"]), str(record["seal"]["key"]), str(record["seal"]["run"])
    return Sight(
        reachable=True,
        environments=seen["environments"],
        containers=None if containers is None else tuple(Container(**container) for container in containers),
        rentals=None if seen["rentals"] is None else tuple(seen["rentals"]),
        registry=seen["registry"],
        chain=chain if isinstance(chain, str) and _MESSAGE.fullmatch(chain) else None,
        record=None if record is None else Record(record["seal"], tuple(record["drift"]), waits(record["waits"])),
        record_error=seen["record_error"],
        errors=tuple(seen["errors"]),
    )
