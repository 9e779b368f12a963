"""The controller's side of a proof: what it asks, when, and what came back by its own clock.

The order is what makes it a proof. The challenge is drawn when the container runs and its cards are up; the second one
when all cards say that they are done; which rows are looked at when they have committed to all of their memory. The
times are those between two messages, as they are seen here; an answer names the question, so that none comes early.
"""

from __future__ import annotations

import base64
import hashlib
import secrets
import time
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Generic, Protocol, TypeVar

from pydantic import BaseModel, ValidationError

from celium_ops.gpu import messages, verifier
from celium_ops.gpu.arithmetic import PROTOCOL, SIZES, Shape
from celium_ops.gpu.messages import Measures, Report
from celium_ops.gpu.reference import find
from celium_ops.gpu.verifier import Fault

Message = dict[str, Any]
Said = TypeVar("Said", bound=BaseModel)

SILENCE = 30.0
"""Seconds without a word after which nobody is there any more; the prover says every 2 s that it is."""
START_WITHIN = 150.0
CHAIN_WITHIN = 180.0
MEASURE_WITHIN = 60.0
ALTOGETHER, DEEPEST = 900.0, 2700.0
USUAL = 0.6
"""Of the sheet's throughput; what a chain reaches, to guess how long it takes."""
LONG = 8.0
"""Seconds of a chain; where matrices of twice the size would take longer, the smaller ones do."""
AS_FULL = 0.97
"""How much of the memory that the smaller ones fill the larger ones have to fill too."""
GOLDEN = Shape(256, 2)
"""A chain that is small enough to be computed here as well, whole."""
PATIENCE, GRACE = 3.0, 5.0
"""How much longer than half of its siblings a card may take, and seconds more, before it is given up."""
ALONE = 4
"""A card on its own does this part of its chain."""
AT_ONCE = 8
"""Rows that are opened in one message, so that none is too long for a slow connection."""
PINGS = 3
DEEP = 12
"""Chains of all cards together, one after the other, in a deep examination: minutes under full load."""
MOST_UNHEARD = 1000


class Line(Protocol):
    """A connection to a prover."""

    def send(self, message: Message) -> None:
        """Send one message.

        Raises:
            OSError: nobody listens.
        """

    def receive(self, seconds: float) -> tuple[Message, float]:
        """Return the next message, and when it came, by ``time.monotonic``.

        Raises:
            TimeoutError: none came in time.
            ConnectionError: none will come; with the reason.
        """


class ExaminationError(Exception):
    """The host could not be examined; which is not to say that its cards are bad."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code


@dataclass
class Round:
    """One chain of one card, by the controller's clock.

    Attributes:
        shape: what was asked for.
        chain_s: from the challenge to the word that the chain is done.
        waited_s: from there to the second challenge, while others were not done.
        commit_s: from the second challenge to the commitment.
        fault: why what was opened does not hold, if so.
        report: what the card measured of itself.
        load: what NVML had to say of the card, where the chain filled its memory.
    """

    shape: Shape
    chain_s: float | None = None
    waited_s: float = 0.0
    commit_s: float | None = None
    fault: Fault | None = None
    report: Report | None = None
    load: messages.CardLoad | None = None

    @property
    def merit(self) -> tuple[bool, bool, bool, float]:
        """Return how good it was, to be compared: what holds, what was done, without errors, and how fast."""
        wrong = self.report.wrong_rows + self.report.changed_rows if self.report else 0
        return self.fault is None, self.proven_tflops is not None, not wrong, self.report.tflops if self.report else 0.0

    @property
    def proven_tflops(self) -> float | None:
        """What the card did at least: it may have worked for as long as nobody had its commitment."""
        if self.chain_s is None or self.commit_s is None or self.report is None or self.fault:
            return None
        return self.shape.operations / (self.chain_s + self.waited_s + self.commit_s) / 1e12


@dataclass
class CardProof:
    """What came of one card: of a small chain, the worst beside its siblings, and perhaps one on its own."""

    uuid: str
    golden: Round | None = None
    together: Round | None = None
    alone: Round | None = None
    measures: Measures = field(default_factory=Measures)
    failure: Fault | None = None
    """Why it gave up, if it did."""
    unmeasured: Fault | None = None
    """Why it did not come to what was to be measured after the proof."""


@dataclass
class Proof:
    """What came of one host.

    Attributes:
        hello: how the prover presented itself, with NVML's, the kernel's and the bus's view of the cards.
        torch: CUDA's view of the cards; null without one.
        cards: by UUID.
        links: speeds between cards.
        after: NVML when all was over.
        round_trip_s: the least between a question and an answer that takes no work.
        seconds: how long it took.
    """

    hello: messages.Hello
    torch: Sequence[messages.TorchCard] | None = None
    cards: dict[str, CardProof] = field(default_factory=dict)
    links: Sequence[messages.Link] = ()
    after: messages.Nvml | None = None
    round_trip_s: float = 0.0
    seconds: float = 0.0


def shape_for(name: str, room: Mapping[int, int]) -> Shape:
    """Return the chain that fills a card's memory, of large matrices where that does not take too long."""
    card = find(name)
    small = chosen = Shape(min(room), room[min(room)])
    for size in sorted(room):
        shape = Shape(size, room[size])
        quick = card is not None and shape.operations / (card.tflops * USUAL * 1e12) <= LONG
        if quick and shape.stored >= AS_FULL * small.stored:
            chosen = shape
    return chosen


class Examination:
    """One host's examination. ``tell`` is told which phase it is in; a ``deep`` one goes on for minutes."""

    def __init__(self, line: Line, tell: Callable[[str], None], deep: bool = False) -> None:
        self.talk = _Talk(line, tell, DEEPEST if deep else ALTOGETHER)
        self.tell = tell
        self.turns = DEEP if deep else 1
        self.shapes: dict[str, Shape] = {}

    def run(self) -> Proof:
        """Examine.

        Raises:
            ExaminationError: the prover is not one, does not keep to the protocol, or fell silent.
        """
        begun = time.monotonic()
        self.proof = self._hello()
        self.tell("exactness")
        for uuid, round_ in self._round(dict.fromkeys(self.shapes, GOLDEN)).items():
            self.proof.cards[uuid].golden = round_
        for group in self._groups():
            self._group(group)
        self.tell("other speeds")
        self._measure()
        for uuid, card in self.proof.cards.items():
            card.unmeasured = None if card.failure else self.talk.failed.get(uuid)
        self.proof.seconds = time.monotonic() - begun
        return self.proof

    def _usable(self, uuid: str) -> bool:
        return uuid not in self.talk.failed

    def _hello(self) -> Proof:
        self.tell("starting")
        hello = self.talk.hello()
        proof = Proof(hello, cards={uuid: CardProof(uuid) for uuid in hello.cards})
        self.names = {card.uuid: card.name or "" for card in (hello.nvml.cards if hello.nvml else [])}
        look = self.talk.answers("start", ["survey"], "look", messages.Look, START_WITHIN)
        proof.torch = look["survey"].content.torch if look else None
        rooms = self.talk.answers("start", hello.cards, "room", messages.Room, START_WITHIN)
        for uuid, answer in rooms.items():
            self.shapes[uuid] = self._shape(hello.mode, uuid, answer.content.room)
        trips = [self._ping() for _ in range(PINGS)]
        proof.round_trip_s = min(trips)
        for uuid in hello.cards:
            proof.cards[uuid].failure = self.talk.failed.get(uuid)
        return proof

    def _shape(self, mode: str, uuid: str, room: Mapping[int, int]) -> Shape:
        fitting = {size: layers for size, layers in room.items() if mode != "cuda" or size in SIZES}
        try:
            return shape_for(self.names.get(uuid, ""), fitting)
        except ValueError:
            raise ExaminationError("malformed", f"{uuid} has room for no chain: {dict(room)}") from None

    def _ping(self) -> float:
        asked = self.talk.ask("ping", SILENCE, {})
        return self.talk.answer(asked, "ping", messages.Done, SILENCE).at - asked.at

    def _groups(self) -> list[list[str]]:
        """Return the cards by model: those of one model are done at the same time."""
        groups = defaultdict(list)
        for uuid in filter(self._usable, self.shapes):
            groups[self.names.get(uuid, "")].append(uuid)
        return list(groups.values())

    def _group(self, group: Sequence[str]) -> None:
        """Let one of some cards work alone, then all of them together; of several turns the worst one counts."""
        if len(group) > 1:
            one = secrets.choice(group)
            shape = Shape(self.shapes[one].size, max(1, self.shapes[one].layers // ALONE))
            self.tell("one card alone")
            self.proof.cards[one].alone = self._round({one: shape})[one]
        for turn in range(1, self.turns + 1):
            self.tell(f"all cards together {turn}/{self.turns}" if self.turns > 1 else "all cards together")
            for uuid, round_ in self._together(group).items():
                card = self.proof.cards[uuid]
                card.together = min(filter(None, (card.together, round_)), key=lambda one: one.merit)

    def _together(self, group: Sequence[str]) -> dict[str, Round]:
        """Let cards work at once; where one that hangs made the others wait, these are asked again."""
        rounds: dict[str, Round] = {}
        able = list(filter(self._usable, group))
        while able:
            rounds |= self._round({uuid: self.shapes[uuid] for uuid in able})
            before, able = able, list(filter(self._usable, able))
            if able == before:
                break
        return rounds

    def _round(self, shapes: Mapping[str, Shape]) -> dict[str, Round]:
        """Let cards compute, commit and open, all at once."""
        rounds = {uuid: Round(shape) for uuid, shape in shapes.items() if self._usable(uuid)}
        nonce, second = secrets.token_bytes(32), secrets.token_bytes(32)
        chains = {uuid: [nonce, round_.shape.size, round_.shape.layers] for uuid, round_ in rounds.items()}
        asked = self.talk.ask("run_chain", CHAIN_WITHIN, chains)
        done = self.talk.answers(asked, rounds, "run_chain", messages.Done, CHAIN_WITHIN, keep_pace=True)
        if any(round_.shape == self.shapes[uuid] for uuid, round_ in rounds.items()):
            for uuid, load in self._load().items():
                if uuid in rounds:
                    rounds[uuid].load = load
        audited = self.talk.ask("audit", CHAIN_WITHIN, {uuid: [second] for uuid in done})
        for uuid, answer in done.items():
            rounds[uuid].chain_s, rounds[uuid].waited_s = answer.at - asked.at, audited.at - answer.at
        commitments = self.talk.answers(audited, done, "audit", messages.Commitment, CHAIN_WITHIN)
        for uuid, commitment in commitments.items():
            rounds[uuid].commit_s = commitment.at - audited.at
        digests = self._digests({uuid: commitment.content.digest for uuid, commitment in commitments.items()})
        self._open({uuid: rounds[uuid] for uuid in digests}, digests, nonce, second)
        for uuid in rounds:
            self.proof.cards[uuid].failure = self.talk.failed.get(uuid)
        return rounds

    def _digests(self, committed: Mapping[str, bytes]) -> dict[str, bytes]:
        """Return the digests of all layers that cards have committed to."""
        asked = self.talk.ask("digests", CHAIN_WITHIN, {uuid: [] for uuid in committed})
        found = self.talk.answers(asked, committed, "digests", messages.Digests, CHAIN_WITHIN)
        digests = {uuid: answer.content.digests for uuid, answer in found.items()}
        for uuid, said in digests.items():
            if hashlib.sha256(said).digest() != committed[uuid]:
                self.talk.failed[uuid] = Fault("other-digests", "its digests are not what it committed to")
        return {uuid: said for uuid, said in digests.items() if self._usable(uuid)}

    def _open(self, rounds: Mapping[str, Round], digests: Mapping[str, bytes], nonce: bytes, second: bytes) -> None:
        """Make cards show some of what they committed to, and check it."""
        samples = {uuid: verifier.draw(round_.shape) for uuid, round_ in rounds.items()}
        openings: dict[str, list[list[bytes]]] = {uuid: [] for uuid in rounds}
        for first in range(0, 2 * verifier.SAMPLES, AT_ONCE):
            places = {uuid: [drawn.places[first : first + AT_ONCE]] for uuid, drawn in samples.items()}
            asked = self.talk.ask("open", CHAIN_WITHIN, places)
            for uuid, answer in self.talk.answers(asked, places, "open", messages.Openings, CHAIN_WITHIN).items():
                openings[uuid] += answer.content.openings
        asked = self.talk.ask("report", CHAIN_WITHIN, {uuid: [] for uuid in rounds})
        for uuid, report in self.talk.answers(asked, rounds, "report", messages.Report, CHAIN_WITHIN).items():
            rounds[uuid].report = report.content
        trees = {size: verifier.Tree(size, second) for size in {round_.shape.size for round_ in rounds.values()}}
        for uuid, round_ in rounds.items():
            tree, opened = trees[round_.shape.size], openings[uuid]
            round_.fault = verifier.check(round_.shape, nonce, uuid, tree, digests[uuid], samples[uuid], opened)
            if round_.shape == GOLDEN and digests[uuid] != verifier.digests(GOLDEN, nonce, uuid, tree):
                round_.fault = Fault("inexact", "a small chain is not what this controller makes of it")

    def _load(self) -> dict[str, messages.CardLoad]:
        asked = self.talk.ask("load", SILENCE, {})
        return self.talk.answer(asked, "load", messages.Load, SILENCE).content.cards

    def _measure(self) -> None:
        usable = [uuid for uuid in self.shapes if self._usable(uuid)]
        self._keep(self.talk.ask("measure", MEASURE_WITHIN, {uuid: [] for uuid in usable}), usable, "measure")
        for uuid in filter(self._usable, usable):  # they may share the way
            self._keep(self.talk.ask("bus", MEASURE_WITHIN, {uuid: []}), [uuid], "bus")
        if len(usable) > 1:
            asked = self.talk.ask("links", MEASURE_WITHIN, {})
            found = self.talk.answers(asked, ["survey"], "links", messages.Links, MEASURE_WITHIN)
            self.proof.links = found["survey"].content.links if found else ()
        asked = self.talk.ask("read", SILENCE, {})
        self.proof.after = self.talk.answer(asked, "read", messages.Read, SILENCE).content.nvml

    def _keep(self, asked: Asked, names: Sequence[str], kind: str) -> None:
        for uuid, answer in self.talk.answers(asked, names, kind, messages.Measured, MEASURE_WITHIN).items():
            new = answer.content.measures.model_dump(exclude_none=True)
            self.proof.cards[uuid].measures = self.proof.cards[uuid].measures.model_copy(update=new)


@dataclass(frozen=True)
class Asked:
    """A question: its name, and when it was sent."""

    id: str
    at: float


@dataclass(frozen=True)
class Answer(Generic[Said]):
    """What was said, and when it came."""

    content: Said
    at: float


class _Talk:
    """Questions and answers. ``failed`` holds the cards that gave up, and why."""

    def __init__(self, line: Line, tell: Callable[[str], None], seconds: float) -> None:
        self.line, self.tell = line, tell
        self.failed: dict[str, Fault] = {}
        self.asked = {"start"}
        self.heard: dict[tuple[str, str, str], tuple[Message, float]] = {}
        self.over = time.monotonic() + seconds

    def hello(self) -> messages.Hello:
        """Return the first thing that is said.

        Raises:
            ExaminationError: it is something else.
        """
        try:
            message, _ = self._next(START_WITHIN, START_WITHIN)
        except TimeoutError:
            raise ExaminationError("silent", f"nothing was said in {START_WITHIN:g} s") from None
        if message.get("type") != "hello" or message.get("protocol") != PROTOCOL:
            raise ExaminationError("no-prover", "what answered is no prover of this version")
        return _checked(message, messages.Hello)

    def ask(self, kind: str, seconds: float, cards: Mapping[str, list[Any]]) -> Asked:
        """Send a question to cards, or with none to the prover as a whole."""
        arguments = {uuid: [_marked(argument) for argument in given] for uuid, given in cards.items()}
        asked = Asked(secrets.token_hex(8), time.monotonic())
        self.asked.add(asked.id)
        try:
            self.line.send({"type": kind, "id": asked.id, "seconds": seconds, "cards": arguments})
        except OSError as error:
            raise ExaminationError("lost", str(error) or "nobody listens any more") from error
        return asked

    def answer(self, asked: Asked, kind: str, model: type[Said], seconds: float) -> Answer[Said]:
        """Return the answer of the prover as a whole.

        Raises:
            ExaminationError: there is none.
        """
        found = self.answers(asked, [""], kind, model, seconds)
        if not found:
            raise ExaminationError("silent", f"the prover does not answer {kind}")
        return found[""]

    def answers(
        self,
        asked: Asked | str,
        names: Sequence[str] | Mapping[str, Any],
        kind: str,
        model: type[Said],
        seconds: float,
        keep_pace: bool = False,
    ) -> dict[str, Answer[Said]]:
        """Return what cards answer to a question; those that fail, or do not in time, are left out and noted.

        With ``keep_pace``, one that takes much longer than half of the others is given up.
        """
        id_ = asked.id if isinstance(asked, Asked) else asked
        begun = time.monotonic()
        until = begun + seconds
        found: dict[str, Answer[Said]] = {}
        while True:
            for name in names:
                if name not in found and (id_, name, kind) in self.heard:
                    message, at = self.heard.pop((id_, name, kind))
                    found[name] = Answer(_checked(message, model), at)
            waiting = [name for name in names if name not in found and name not in self.failed]
            if keep_pace and len(found) >= max(1, len(names) / 2):
                until = min(until, begun + PATIENCE * (time.monotonic() - begun) + GRACE)
            if not waiting:
                return found
            try:
                self._hear(until - time.monotonic())
            except TimeoutError:
                for name in waiting:
                    self.failed.setdefault(name, Fault("timeout", f"no answer to {kind} in time"))
                return found

    def _hear(self, seconds: float) -> None:
        """Take in one message."""
        message, at = self._next(seconds, SILENCE)
        kind, name, id_ = (str(message.get(key, "")) for key in ("type", "card", "id"))
        if kind == "failed":
            failed = _checked(message, messages.Failed)
            self.failed[name] = Fault(failed.code, failed.message)
        elif id_ in self.asked:
            self.heard[id_, name, kind] = message, at
        else:
            raise ExaminationError("malformed", f"the prover answers what nobody asked: {messages.printable(id_)[:40]}")
        if len(self.heard) + len(self.failed) > MOST_UNHEARD:
            raise ExaminationError("malformed", "the prover talks without being asked")

    def _next(self, seconds: float, silence: float) -> tuple[Message, float]:
        """Return the next message that is not only a sign of life.

        Raises:
            TimeoutError: none came in time, though there is life.
            ExaminationError: there is none.
        """
        until = min(time.monotonic() + seconds, self.over)
        while (left := until - time.monotonic()) > 0:
            try:
                message, at = self.line.receive(min(left, silence))
            except TimeoutError:
                if left <= silence:
                    break
                raise ExaminationError("silent", f"the prover has said nothing for {silence:g} s") from None
            except ConnectionError as error:
                raise ExaminationError("lost", str(error)) from error
            if message.get("type") != "alive":
                return message, at
            self.tell(_printable(message.get("phases")))
        raise TimeoutError


def _checked(message: Message, model: type[Said]) -> Said:
    try:
        return model.model_validate(message)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        place = ".".join(str(part) for part in first["loc"])
        raise ExaminationError(
            "malformed", f"the prover does not keep to the protocol: {place}: {first['msg']}"
        ) from None


def _printable(phases: object) -> str:
    """Return what a prover says of its cards' phases, without what a terminal would obey."""
    said = sorted({str(phase) for phase in phases.values()}) if isinstance(phases, dict) else []
    return str(messages.printable(", ".join(said)[:60])) or "waiting"


def _marked(argument: Any) -> Any:
    return {"b64": base64.b64encode(argument).decode()} if isinstance(argument, bytes) else argument
