"""Which ports of a host can be reached, from here or from another host of the fleet: the same tries, the same code."""

from __future__ import annotations

import json
import secrets
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import resources
from itertools import count
from threading import Lock, Thread
from typing import Any

from celium_ops.fleet.model import Host
from celium_ops.remote.conversation import Conversation
from celium_ops.remote.on_host.reach import reach

REACH_WITHIN = 3.0
"""Seconds for connections to all ports of a way, and their answers."""
LISTEN_FOR = 30
"""Seconds after which a listener goes away, whatever happened to us."""
START_WITHIN = 12.0

Try = tuple[str, int, str | None]
"""An address, a port, and what whoever listens there has to answer; null where anybody will do."""
Reach = Callable[[Sequence[Try]], list[bool]]
"""Tells of each try whether it went well; ConnectionError or TimeoutError, with the reason, when nobody could try."""


@dataclass(frozen=True)
class Way:
    """Ports of a host on one way to it, as the world numbers them.

    Attributes:
        listening: where somebody listened, and of those ``reached`` from where they were tried.
        error: why nothing could be tried, if so.
    """

    listening: tuple[int, ...] = ()
    reached: tuple[int, ...] = ()
    error: str | None = None


@contextmanager
def trying_from(host: Host | None) -> Iterator[Reach]:
    """Give what tries ports: from here, or from a host, on which one program serves all tries until the block ends."""
    if host is None:
        yield lambda tries: reach(tries, REACH_WITHIN)
        return
    with Conversation(host, ["python3", "-I", "-S", "-c", _program("reach")]) as line:
        yield _Elsewhere(host.name, line)


class _Elsewhere:
    """Tries from a host: questions of several threads on one connection, each a round trip."""

    def __init__(self, name: str, line: Conversation) -> None:
        self.name = name
        self.line = line
        self.lock = Lock()
        self.numbers = count()
        self.waiting: dict[str, Future[Any]] = {}
        Thread(target=self._hear, daemon=True).start()

    def __call__(self, tries: Sequence[Try]) -> list[bool]:
        try:
            reached = self._asked(tries).result(START_WITHIN + REACH_WITHIN)
        except ConnectionError as error:
            raise ConnectionError(f"{self.name}: {error}") from None
        except TimeoutError:
            raise TimeoutError(f"{self.name} does not say in time what it reaches") from None
        if not isinstance(reached, list) or [type(well) for well in reached] != [bool] * len(tries):
            raise ConnectionError(f"{self.name} does not say what it reaches")
        return reached

    def _asked(self, tries: Sequence[Try]) -> Future[Any]:
        number, answer = str(next(self.numbers)), Future[Any]()
        with self.lock:
            if self.line.over:  # and nobody hears for us any more
                raise self.line.over
            self.waiting[number] = answer
            self.line.send({"number": number, "tries": tries, "within": REACH_WITHIN})
        return answer

    def _hear(self) -> None:
        while True:
            try:
                message, _ = self.line.receive(START_WITHIN)
            except TimeoutError:
                continue
            except ConnectionError as error:
                with self.lock:
                    for answer in self.waiting.values():
                        answer.set_exception(error)
                return
            with self.lock:
                asked = self.waiting.pop(str(message.get("number")), None)
            if asked:
                asked.set_result(message.get("reached"))


def service_way(reach: Reach, address: str, ports: Sequence[int]) -> Way:
    """Try ports on which a stack that is there listens."""
    try:
        return Way(tuple(ports), _reached(reach, address, ports, None))
    except (ConnectionError, TimeoutError) as error:
        return Way(error=str(error))


def host_way(host: Host, reach: Reach, address: str, ports: Sequence[tuple[int, int]]) -> Way:
    """Try ports on which a program of the host itself listens; pairs of the port there and as the world sees it."""
    return _try(host, reach, address, ports, ["python3", "-I", "-S", "-c", _program("listen")])


def published_way(host: Host, reach: Reach, address: str, ports: Sequence[tuple[int, int]], image: str) -> Way:
    """Try ports that Docker publishes for a container of an image that is on the host."""
    published = [part for inside, _ in ports for part in ("-p", f"{inside}:{inside}")]
    quiet = ["--pull", "never", "--log-driver", "none", "--label", "org.celium-ops.preflight"]
    run = ["docker", "run", "--rm", "-i", *quiet, *published, "--entrypoint", "python3", image]
    return _try(host, reach, address, ports, [*run, "-I", "-S", "-c", _program("listen")])


def _program(name: str) -> str:
    return resources.files("celium_ops.remote.on_host").joinpath(f"{name}.py").read_text()


def _try(host: Host, reach: Reach, address: str, ports: Sequence[tuple[int, int]], command: list[str]) -> Way:
    answer = secrets.token_hex(8)
    asked = {"ports": [inside for inside, _ in ports], "answer": answer, "seconds": LISTEN_FOR}
    try:
        with Conversation(host, [*command, json.dumps(asked)]) as line:
            said, _ = line.receive(START_WITHIN)
            listening = set(said["listening"])
            outside = [port for inside, port in ports if inside in listening]
            found = _reached(reach, address, outside, answer)
    except (ConnectionError, TimeoutError) as error:
        return Way(error=str(error) or "it did not begin in time")
    return Way(tuple(outside), found)


def _reached(reach: Reach, address: str, ports: Sequence[int], answer: str | None) -> tuple[int, ...]:
    reached = reach([(address, port, answer) for port in ports])
    return tuple(port for port, well in zip(ports, reached, strict=True) if well)
