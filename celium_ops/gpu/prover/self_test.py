"""``python -m celium_ops.gpu.prover.self_test``: the cards of a host test themselves, without a controller.

It prints one document of JSON and exits with 1 when something speaks against a card. What it finds is true of a host
that wants to know; to others it proves nothing, since it asks and judges on the same machine: its assurance is
``cross_checked``, never ``work_proven``.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from base64 import b64encode
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

Message = dict[str, Any]
GOLDEN = json.loads((Path(__file__).parents[1] / "golden.json").read_text())
"""Small chains with what every device makes of them."""
WITHIN = 180.0
"""Seconds for one question; the prover gives up a card that takes longer, and says so."""
SCHEMA = "celium-ops/gpu-self-test/1"


class SelfTest:
    """One conversation with the prover, in a process of its own."""

    def __init__(self, prover: subprocess.Popen[str]) -> None:
        self.prover = prover
        self.reasons: list[Message] = []
        self.failed: set[str] = set()

    def run(self) -> Message:
        """Return the report."""
        hello = self._next()
        uuids = list(hello["cards"])
        rooms = self._answers("start", [*uuids, "survey"])
        self.reasons += views_differ(hello, rooms.pop("survey", {}).get("torch"))
        for case in GOLDEN:
            for uuid, answer in self._ask("golden", {uuid: [case] for uuid in uuids}).items():
                if answer["last"] != case["last"]:
                    self._object(uuid, "inexact", "a chain of known outcome came to something else")
                self._count(uuid, answer)
        shapes = {
            uuid: min((int(size), layers) for size, layers in room["room"].items()) for uuid, room in rooms.items()
        }
        nonce = {"b64": b64encode(os.urandom(32)).decode()}
        self._ask("run_chain", {uuid: [nonce, *shape] for uuid, shape in shapes.items()})
        reports = self._ask("report", {uuid: [] for uuid in shapes})
        for uuid, report in reports.items():
            self._count(uuid, report)
        real = hello["mode"] == "cuda"
        return {
            "schema": SCHEMA,
            "ok": not self.reasons and bool(uuids),
            "mode": hello["mode"],
            "assurance": "cross_checked" if real and uuids and not self.reasons else "none",
            "reasons": self.reasons,
            "cards": [_card(uuid, shapes.get(uuid), reports.get(uuid)) for uuid in uuids],
        }

    def _count(self, uuid: str, report: Mapping[str, Any]) -> None:
        for key, code, what in (
            ("wrong_rows", "compute-errors", "rows of products have a wrong sum"),
            ("changed_rows", "memory-errors", "rows changed while they were stored"),
        ):
            if report[key]:
                self._object(uuid, code, f"{report[key]} {what}")

    def _ask(self, kind: str, cards: Mapping[str, list[Any]]) -> dict[str, Message]:
        asked = {uuid: arguments for uuid, arguments in cards.items() if uuid not in self.failed}
        if not asked:
            return {}
        assert self.prover.stdin  # noqa: S101  # as it was started
        print(
            json.dumps({"type": kind, "id": kind, "seconds": WITHIN, "cards": asked}),
            file=self.prover.stdin,
            flush=True,
        )
        return self._answers(kind, asked)

    def _answers(self, id_: str, cards: Iterable[str]) -> dict[str, Message]:
        """Return what the cards say, all of them; those that give up are left out."""
        waiting, found = set(cards), {}
        while waiting:
            said = self._next()
            card = said.get("card")
            if said["type"] == "failed":
                self._object(card, said["code"], said["message"])
                self.failed.add(str(card))
                waiting.discard(str(card))
            elif said.get("id") == id_ and card in waiting:
                found[str(card)] = said
                waiting.discard(str(card))
        return found

    def _next(self) -> Message:
        assert self.prover.stdout  # noqa: S101  # as it was started
        line = self.prover.stdout.readline()
        if not line:
            raise SystemExit("the prover ended; what it said is above")
        said: Message = json.loads(line)
        return said

    def _object(self, card: str | None, code: str, message: str) -> None:
        self.reasons.append({"card": card, "code": code, "message": message})


def views_differ(hello: Mapping[str, Any], torch: list[Message] | None) -> Iterator[Message]:
    """Yield where NVML, the kernel's driver and CUDA have other cards; a view that there is none of says nothing."""
    nvml = hello["nvml"]
    if nvml is None:
        yield {"card": None, "code": "no-nvml", "message": "there is no NVML, so no card of NVIDIA's"}
        return
    if not nvml["cards"]:
        yield {"card": None, "code": "no-cards", "message": "NVML has no card"}
    for line in hello["tampering"]:
        yield {"card": None, "code": "tampering", "message": f"something is between programs and the driver: {line}"}
    own = Counter(card["uuid"] for card in nvml["cards"])
    for who, view in (("the kernel's driver", hello["kernel"]), ("CUDA", torch)):
        if view is not None and Counter(card["uuid"] for card in view) != own:
            yield {"card": None, "code": "other-cards", "message": f"{who} has other cards than NVML"}


def _card(uuid: str, shape: tuple[int, int] | None, report: Mapping[str, Any] | None) -> Message:
    stored = shape[0] ** 2 * (shape[1] + 1) / 2**30 if shape else None
    return {
        "uuid": uuid,
        "memory_gib": stored if report else None,
        "tflops": report["tflops"] if report else None,
        "seconds": report["seconds"] if report else None,
    }


def main() -> int:
    """Test the cards of this host and say what came of it."""
    command = [sys.executable, "-m", "celium_ops.gpu.prover"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as prover:
        report = SelfTest(prover).run()
    sys.stdout.write(json.dumps(report) + "\n")
    return 0 if report["ok"] else 1


if __name__ == "__main__":
    sys.exit(main())
