"""The process of one card: it does what it is told, one thing after the other, and may be killed at any time."""

from __future__ import annotations

import hashlib
import os
import signal
import statistics
import sys
import traceback
from collections.abc import Callable
from multiprocessing.connection import Connection
from typing import Any

from celium_ops.gpu.arithmetic import Shape
from celium_ops.gpu.prover.chain import Chain

Message = dict[str, Any]


class Worker:
    """What one card can be asked for; each answer is a message, without its type and card."""

    def __init__(self, uuid: str, device: Any, beat: Callable[[str], None]) -> None:
        self.uuid, self.device, self.beat = uuid, device, beat
        self.chain: Chain | None = None
        self.committed = b""

    def room(self) -> Message:
        """Return how many layers there is room for, by the size of their matrices."""
        return {"room": self.device.room()}

    def run_chain(self, nonce: bytes, size: int, layers: int) -> Message:
        """Compute a chain and keep it."""
        self.chain = None
        self.device.release()
        self.chain = self.new_chain(Shape(size, layers), nonce)
        self.chain.run(lambda layer: self.beat(f"chain {layer}/{layers}"))
        return {}

    def new_chain(self, shape: Shape, nonce: bytes) -> Chain:
        """Return the chain to be computed."""
        return Chain(self.device, shape, nonce, self.uuid)

    def audit(self, nonce: bytes) -> Message:
        """Return what the card commits to."""
        assert self.chain is not None  # noqa: S101  # the caller's mistake
        self.committed = self.chain.commit(nonce)
        return {"digest": hashlib.sha256(self.committed).digest()}

    def digests(self) -> Message:
        """Return what that is the digest of."""
        return {"digests": self.committed}

    def open(self, places: list[tuple[int, int]]) -> Message:
        """Return what was asked for."""
        assert self.chain is not None  # noqa: S101  # the caller's mistake
        return {"openings": self.chain.open(places)}

    def report(self) -> Message:
        """Return what the chain took, and how many rows were found wrong."""
        chain = self.chain
        assert chain is not None  # noqa: S101  # the caller's mistake
        once = 2 * chain.shape.size**3 / 1e12
        return {
            "seconds": chain.seconds,
            "tflops": once / statistics.median(chain.spans),
            "wrong_rows": chain.wrong_rows,
            "changed_rows": chain.changed_rows(),
        }

    def golden(self, case: Message) -> Message:
        """Return what became of a small chain whose last digest is known."""
        chain = Chain(self.device, Shape(case["size"], case["layers"]), bytes.fromhex(case["nonce"]), case["uuid"])
        chain.run(lambda _layer: None)
        last = chain.commit(bytes.fromhex(case["second"]))[-32:].hex()
        return {"last": last, "wrong_rows": chain.wrong_rows, "changed_rows": chain.changed_rows()}

    def measure(self) -> Message:
        """Return the other speeds, which a card can measure while others do; on a processor there are none."""
        self.chain = None
        self.device.release()
        if not self.device.cuda:
            return {"measures": {}}
        from celium_ops.gpu.prover import measure

        return {"measures": {**measure.memory(), **measure.precisions()}}

    def bus(self) -> Message:
        """Return the speeds of the way to the card, which cards may share."""
        if not self.device.cuda:
            return {"measures": {}}
        from celium_ops.gpu.prover import measure

        return {"measures": measure.bus()}


class Surveyor:
    """What sees all cards at once, as the workers do not."""

    def __init__(self, cuda: bool) -> None:
        self.cuda = cuda

    def look(self) -> Message:
        """Return the cards that torch sees; null without CUDA."""
        if not self.cuda:
            return {"torch": None}
        import torch

        from celium_ops.gpu.views import torch_view

        return {"torch": torch_view(torch)}

    def links(self) -> Message:
        """Return the speeds between the cards."""
        if not self.cuda:
            return {"links": []}
        from celium_ops.gpu.prover import measure

        return {"links": measure.links()}


def serve(pipe: Connection, uuid: str | None, make: Callable[[Callable[[str], None]], Any]) -> None:
    """Do what comes through the pipe until it closes; run in a process of its own, before CUDA was touched.

    ``make`` gets a function to say which phase it is in, and returns what has the methods that are asked for. With a
    ``uuid`` the process sees that card and no other.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent decides
    os.environ["CUDA_DEVICE_ORDER"] = "PCI_BUS_ID"
    if uuid is not None:
        os.environ["CUDA_VISIBLE_DEVICES"] = uuid
    phase = "start"

    def beat(now: str) -> None:
        nonlocal phase
        phase = now
        pipe.send(("phase", {"phase": now}))

    try:
        worker = make(beat)
        while True:
            phase, arguments = pipe.recv()
            pipe.send((phase, getattr(worker, phase)(*arguments)))
    except (EOFError, BrokenPipeError):
        return
    except BaseException as error:  # whatever it is, somebody has to be told
        traceback.print_exc(file=sys.stderr)
        pipe.send(("failed", {"phase": phase, "code": code_of(error), "message": _first_line(error)}))


_CODES = {
    "out of memory": "vram-unavailable",
    "system not yet initialized": "cuda-not-ready",
    "802": "cuda-not-ready",
    "no CUDA-capable device": "no-gpu-access",
    "Found no NVIDIA driver": "no-gpu-access",
    "no kernel image": "unsupported-card",
}


def code_of(error: BaseException) -> str:
    """Return a name for what went wrong on a card."""
    said = str(error)
    return next((code for words, code in _CODES.items() if words in said), "gpu-fault")


def _first_line(error: BaseException) -> str:
    return f"{type(error).__name__}: {str(error).splitlines()[0][:1000] if str(error) else 'no message'}"
