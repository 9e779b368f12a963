"""The process that talks: commands come in as lines of JSON, answers go out likewise; each card has its own process.

A card that hangs, or whose process dies, is given up by its deadline and the others go on. When nobody is listening any
more, everything ends.
"""

from __future__ import annotations

import base64
import json
import multiprocessing
import os
import sys
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from multiprocessing.connection import Connection, wait
from typing import Any

from celium_ops.gpu import nvml, views
from celium_ops.gpu.arithmetic import PROTOCOL
from celium_ops.gpu.prover.load import Load
from celium_ops.gpu.prover.worker import Message, Surveyor, Worker, serve

ALIVE_EVERY = 2.0
START_WITHIN = 120.0
"""Seconds for CUDA to come up on a card."""
_CHUNK = 1 << 16

MakeWorker = Callable[[str, Callable[[str], None]], Worker]


@dataclass
class _Process:
    """One card's process, and until when it may take for what it was last told."""

    process: Any
    pipe: Connection
    id: str = "start"
    deadline: float | None = None
    phase: str = "start"


class Prover:
    """One examination.

    Args:
        mode: ``cuda``, ``cpu`` or, with an NVML that admits to be one, ``simulated``.
        pynvml: the module, initialised; null when there is no NVML.
        make_worker: what a card's process is made with.
    """

    def __init__(self, mode: str, pynvml: Any, make_worker: MakeWorker, about: Mapping[str, Any]) -> None:
        self.mode, self.pynvml, self.about = mode, pynvml, about
        self.make_worker = make_worker
        self.load = Load(pynvml)
        self.processes: dict[str, _Process] = {}
        self.input = b""
        self.spoken = time.monotonic()

    def run(self) -> None:
        """Answer until nobody listens any more."""
        try:
            self._answer()
        except BrokenPipeError:
            pass
        finally:
            for card in self.processes.values():
                card.process.kill()

    def _answer(self) -> None:
        seen = nvml.read(self.pynvml) if self.pynvml else None
        # One that has fallen off the bus has no UUID; what NVML says of it is said, and nothing is asked of it.
        uuids = list(dict.fromkeys(card["uuid"] for card in seen["cards"] if card["uuid"])) if seen else ["CPU"]
        self._start("survey", None, lambda _beat: Surveyor(self.mode == "cuda"))
        self._tell("survey", "start", START_WITHIN, "look")
        for uuid in uuids:
            self._start(uuid, uuid, partial(self.make_worker, uuid))
            self._tell(uuid, "start", START_WITHIN, "room")
        self.say(
            "hello",
            protocol=PROTOCOL,
            mode=self.mode,
            about=dict(self.about),
            nvml=seen,
            kernel=views.kernel_view(),
            bus=views.bus_view(),
            tampering=views.tampering(),
            cards=uuids,
        )
        while self._turn():
            pass

    def say(self, kind: str, **content: Any) -> None:
        """Send one message."""
        line = json.dumps({"type": kind, **content}, default=_plain, separators=(",", ":"))
        sys.stdout.write(line + "\n")
        sys.stdout.flush()
        self.spoken = time.monotonic()

    def obey(self, command: Message) -> None:
        """Do what one message says."""
        kind, id_, seconds = command["type"], command["id"], command["seconds"]
        if kind == "ping":
            self.say("ping", id=id_)
        elif kind == "load":
            self.say("load", id=id_, cards=self.load.stop())
        elif kind == "read":
            self.say("read", id=id_, nvml=nvml.read(self.pynvml) if self.pynvml else None)
        elif kind == "links":
            self._tell("survey", id_, seconds, kind)
        else:
            if kind == "run_chain":
                self.load.start()
            for uuid, arguments in command["cards"].items():
                self._tell(uuid, id_, seconds, kind, *map(_value, arguments))

    def _start(self, name: str, uuid: str | None, make: Callable[[Callable[[str], None]], Any]) -> None:
        # Forked, so that torch is imported once; CUDA was not touched yet, which could not be forked.
        here, there = multiprocessing.Pipe()
        context = multiprocessing.get_context("fork")
        process = context.Process(target=_child, args=(here, there, uuid, make), daemon=True)
        process.start()
        there.close()
        self.processes[name] = _Process(process, here)

    def _tell(self, name: str, id_: str, seconds: float, method: str, *arguments: Any) -> None:
        card = self.processes.get(name)
        if card is None:
            self.say("failed", card=name, phase=method, code="no-such-card", message="it has been given up")
            return
        card.id, card.deadline, card.phase = id_, time.monotonic() + seconds, method
        with suppress(OSError):  # its process has ended, which is noticed when it is listened to
            card.pipe.send((method, arguments))

    def _turn(self) -> bool:
        """Pass on what there is; return whether anybody listens."""
        waiting: list[Any] = [card.pipe for card in self.processes.values()]
        for ready in wait([*waiting, sys.stdin.fileno()], ALIVE_EVERY / 2):
            if ready == sys.stdin.fileno():
                data = os.read(sys.stdin.fileno(), _CHUNK)
                if not data:
                    return False
                *lines, self.input = (self.input + data).split(b"\n")
                for line in lines:
                    self.obey(json.loads(line))
            else:
                self._hear(next(name for name, card in self.processes.items() if card.pipe is ready))
        for name in [name for name, card in self.processes.items() if _late(card)]:
            self._give_up(name, "timeout", "it did not come to an end in time")
        if time.monotonic() - self.spoken > ALIVE_EVERY:
            self.say("alive", phases={name: card.phase for name, card in self.processes.items() if card.deadline})
        return True

    def _hear(self, name: str) -> None:
        card = self.processes[name]
        try:
            kind, content = card.pipe.recv()
        except (EOFError, OSError):
            card.process.join(1)
            self._give_up(name, "died", f"its process ended ({card.process.exitcode})")
            return
        if kind == "phase":
            card.phase = content["phase"]
            return
        card.deadline = None
        self.say(kind, card=name, id=card.id, **content)
        if kind == "failed":
            # A fault leaves a CUDA context that can do nothing more.
            self._remove(name)

    def _give_up(self, name: str, code: str, message: str) -> None:
        phase = self.processes[name].phase
        self._remove(name)
        self.say("failed", card=name, phase=phase, code=code, message=f"in {phase}: {message}")

    def _remove(self, name: str) -> None:
        card = self.processes.pop(name)
        card.process.kill()
        card.pipe.close()


def _child(here: Connection, there: Connection, uuid: str | None, make: Callable[..., Any]) -> None:
    here.close()
    # What the library prints belongs with the errors: stdout is the conversation.
    os.dup2(2, 1)
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    serve(there, uuid, make)


def _late(card: _Process) -> bool:
    return card.deadline is not None and time.monotonic() > card.deadline


def _plain(value: Any) -> Any:
    if isinstance(value, bytes):
        return base64.b64encode(value).decode()
    raise TypeError(f"{type(value).__name__} has no form in JSON")


def _value(argument: Any) -> Any:
    """Return an argument: what is marked as bytes is bytes."""
    return base64.b64decode(argument["b64"]) if isinstance(argument, dict) and "b64" in argument else argument
