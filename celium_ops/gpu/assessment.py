"""What a proof says of each card: checks with what was measured and required, and a verdict. Pure.

Three kinds of statements stand beside each other: what was proven (the chain, its time by our clock, the memory that it
was kept in), what several views agree on (which card it is), and what the host says of itself (bandwidth, clocks,
health). A program on the host can make up the last kind; it is worth knowing of a host that one does not distrust.
"""

from __future__ import annotations

from collections.abc import Generator, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

from pydantic import BaseModel

from celium_ops.base.checks import Check, Status
from celium_ops.gpu.examination import CardProof, Proof, Round
from celium_ops.gpu.identity import Views, cross_check
from celium_ops.gpu.messages import Card as NvmlCard
from celium_ops.gpu.messages import Report
from celium_ops.gpu.reference import Card, find, judge_bandwidth, judge_throughput

Mode = Literal["cuda", "cpu", "simulated"]
Verdict = Literal["accept", "reject", "unknown"]
Assurance = Literal["none", "self_reported", "cross_checked", "work_proven"]

NOT_PROVEN = (
    "that the card which answered is in this host, and not in another behind a fast link",
    "what the cards are called: a changed driver, or a changed image, can show any name to all views",
    "bandwidth, clocks, power and health: the host's own words",
    "which of two cards it is whose products of 8 bits are as fast as the other's of 16",
)
"""What no software on a host that somebody else controls can prove."""

CLAIM = 0.35
"""Of what a card says its products alone reach, this much must be seen in the whole chain; honest ones show more."""
FLOOR = 0.7
"""Of the table's limits for products alone, which a whole chain must reach by our clock."""
FLOOR_OF_SHEET = 0.25
"""Of the sheet's throughput, for cards without such limits."""
INFORMATION = 0.75
"""Six of the eight bits of each stored number are worth keeping."""
FASTER, HALF_RATE = 2.6, 512
"""How much faster than the sheet a card could make its layers again: products of 8 bits, multiplied Strassen's way.

Twice that where the sheet's products, of 16 bits with sums in fp32, run at half the rate that the silicon has."""
BUS_GB_S = 63.0
"""PCIe 5 x16: what could come from the host's memory instead."""
HELD_WARN, HELD_FAIL = 0.4, 0.2
"""Of the bytes of the chain's layers, which must have been in memory, given how fast the card committed to them."""
TRIP_MOST = 0.15
"""Seconds of the way that are taken off the time of a commitment; the prover could make the way look long."""
MISSING, MISSING_MIB = 0.03, 2_048
"""Of a card's memory, or at least so much, that the chain need not fill: the driver and the work take some."""
MISSING_FAIL, MISSING_FAIL_MIB = 0.10, 4_096
TOGETHER_WARN, TOGETHER_FAIL = 0.9, 0.6
"""Speed of a card beside its siblings, of its speed alone; one card behind two names reaches half."""
FP32 = 0.7
RATIO = 1.5
"""How far the rates of fp32 and fp64 may be from the sheet's ratio, as a factor."""
LINK_SHARE = 0.8
LANE_GB_S = {3: 0.985, 4: 1.969, 5: 3.938, 6: 7.563}
LAUNCH_US = 25.0
HOT_SHARE, THERMAL_SHARE = 0.05, 0.20
NEEDED = ("proof.exact", "proof.work", "proof.memory", "proof.coverage", "gpu.torch.name", "gpu.speed", "gpu.bandwidth")
"""What each card must have passed for a host to be accepted; what is missing is not well."""


BY_CLOCK = frozenset(
    {
        ("proof.work", "forged-timing"),
        ("proof.work", "slow"),
        ("proof.memory", "memory-not-held"),
        ("proof.together", "not-together"),
    }
)
"""Checks, and how they end, that go by our clock."""


@dataclass(frozen=True)
class Assessment:
    """What is made of one host.

    Attributes:
        cards: the checks of each card by UUID, in the driver's order.
        efficiencies: what share of its silicon's products at its clock a card reached, where that is known.
    """

    mode: Mode
    verdict: Verdict
    assurance: Assurance
    host: Sequence[Check]
    cards: Mapping[str, Sequence[Check]]
    efficiencies: Mapping[str, float]

    @property
    def checks(self) -> list[Check]:
        """All of them."""
        return [*self.host, *(check for checks in self.cards.values() for check in checks)]

    @property
    def reasons(self) -> list[Check]:
        """What stands in the way: what failed, or, where nothing did, what a real card did not show."""
        failed = [check for check in self.checks if check.status == "fail"]
        return failed or ([] if self.mode != "cuda" else list(self._missing()))

    @property
    def only_late(self) -> bool:
        """Tell whether all that speaks against the host is what was judged by our clock."""
        failed = [check for check in self.checks if check.status == "fail"]
        return bool(failed) and all((check.id, check.code) in BY_CLOCK for check in failed)

    def _missing(self) -> Iterator[Check]:
        for uuid, checks in self.cards.items():
            for id_ in NEEDED:
                if not _passed(checks, id_):
                    found = next((check for check in checks if check.id == id_), None)
                    yield found or Check(id_, "unknown", f"{id_} was not shown", card=uuid, code="not-shown")


def assess(proof: Proof, simulated: bool = False) -> Assessment:
    """Return what a proof says.

    Args:
        proof: what came of the examination.
        simulated: the host's cards are known to be simulated: nothing is expected of them, nothing is accepted.
    """
    hello, mode = proof.hello, proof.hello.mode
    seen = {card.uuid: card for card in (hello.nvml.cards if hello.nvml else [])}
    host = [_mode(mode, simulated)]
    identity: list[Check] = []
    if not simulated:
        host += _whole(proof, seen)
        identity = _identity(proof)
        host += [check for check in identity if check.card is None]
    after = {card.uuid: card for card in (proof.after.cards if proof.after else [])}
    cards, efficiencies = {}, {}
    for uuid, card in proof.cards.items():
        found = _Of(card, seen.get(uuid), after.get(uuid), proof, mode == "cuda")
        own = [check for check in identity if check.card == uuid]
        cards[uuid] = [*own, *(replace(check, card=uuid) for check in found.checks())]
        if found.efficiency is not None:
            efficiencies[uuid] = found.efficiency
    host += _links(proof, {str(uuid): card.name for uuid, card in seen.items()})
    return Assessment(mode, _verdict(mode, host, cards), _assurance(mode, identity, cards), host, cards, efficiencies)


_ACCESS = "nvidia-smi on the host, then in a container: docker run --rm --gpus all ... nvidia-smi"


def _identity(proof: Proof) -> list[Check]:
    hello = proof.hello

    def plain(view: Sequence[BaseModel] | None) -> list[dict[str, Any]] | None:
        return None if view is None else [card.model_dump() for card in view]

    nvml = hello.nvml.model_dump() if hello.nvml else {"cards": []}
    return cross_check(Views(nvml, plain(hello.kernel), plain(hello.bus), plain(proof.torch), hello.tampering))


def _whole(proof: Proof, seen: Mapping[str | None, NvmlCard]) -> Iterator[Check]:
    """All cards that NVML has must be those that were asked."""
    if not proof.cards:
        yield Check("gpu.count", "fail", "there is no card", code="no-cards", remedy=_ACCESS)
    if None in seen:
        yield Check("gpu.lost", "fail", "a card has no UUID: it has fallen off the bus", code="lost", remedy="reboot")
    left_out = seen.keys() - proof.cards.keys() - {None}
    if left_out or (proof.hello.nvml and proof.hello.nvml.count != len(seen)):
        message = "NVML has cards that do not answer for themselves"
        yield Check("gpu.asked", "fail", message, ", ".join(map(str, left_out)) or None, code="hidden", remedy=_FORGED)


def _verdict(mode: str, host: Sequence[Check], cards: Mapping[str, Sequence[Check]]) -> Verdict:
    checks = [*host, *(check for of_card in cards.values() for check in of_card)]
    if any(check.status == "fail" for check in checks):
        return "reject"
    shown = all(_passed(of_card, id_) for of_card in cards.values() for id_ in NEEDED)
    return "accept" if shown and cards and mode == "cuda" else "unknown"


def _assurance(mode: str, identity: Sequence[Check], cards: Mapping[str, Sequence[Check]]) -> Assurance:
    """Return how much the verdict rests on, of the whole host: as much as that of its least proven card."""
    if mode != "cuda" or not cards:
        return "none"
    if any(check.status == "fail" for check in identity):
        return "self_reported"
    if not all(_passed(of_card, "gpu.torch.name") for of_card in cards.values()):
        return "self_reported"
    proven = all(_passed(of_card, id_) for of_card in cards.values() for id_ in ("proof.work", "proof.memory"))
    return "work_proven" if proven else "cross_checked"


def _passed(checks: Sequence[Check], id_: str) -> bool:
    well = ("pass",) if id_ == "proof.memory" else ("pass", "warn")
    return any(check.id == id_ and check.status in well for check in checks)


def _mode(mode: str, simulated: bool) -> Check:
    if mode == "cuda":
        return Check("proof.mode", "pass", "the cards computed", mode, "cuda")
    said = f"the proof ran in mode {mode}: a processor computed, which proves nothing of a card"
    if simulated:
        return Check("proof.mode", "skipped", said, mode, "cuda", code="simulated")
    remedy = "deploy with the image for CUDA; executor_gpu_proof: simulated is for rehearsals"
    return Check("proof.mode", "fail", said, mode, "cuda", remedy, code="no-cuda")


class _Of:
    """The checks of one card."""

    def __init__(
        self, proof: CardProof, seen: NvmlCard | None, after: NvmlCard | None, whole: Proof, real: bool
    ) -> None:
        self.proof, self.seen, self.after, self.real = proof, seen, after, real
        self.load = proof.together.load if proof.together else None
        self.trip_s = min(whole.round_trip_s, TRIP_MOST)
        self.card = find(seen.name or "") if seen else None
        self.efficiency: float | None = None

    def checks(self) -> Iterator[Check]:
        """Return all of them."""
        failure, together = self.proof.failure, self.proof.together
        if failure:
            yield Check("proof.work", "fail", failure.message, code=failure.code, remedy=_REMEDIES.get(failure.code))
        yield from self._golden()
        if together and together.fault:
            yield Check("proof.work", "fail", together.fault.message, code=together.fault.code, remedy=_FORGED)
        elif together and together.report and together.proven_tflops is not None:
            yield self._work(together, together.report, together.proven_tflops)
            covered = yield from self._coverage(together)
            if covered:
                yield self._memory(together)
            yield from self._together(together.proven_tflops)
            yield from self._faults(together.report)
            yield from self._speed(together.report)
        if self.proof.unmeasured:
            fault = self.proof.unmeasured
            yield Check("gpu.measures", "error", fault.message, code=fault.code)
        if self.real:
            yield from self._speeds()
            yield from self._health()

    def _golden(self) -> Iterator[Check]:
        golden = self.proof.golden
        if golden is None or golden.commit_s is None:
            return
        if golden.fault:
            yield Check("proof.exact", "fail", golden.fault.message, code=golden.fault.code, remedy=_FAULTY)
        else:
            yield Check("proof.exact", "pass", "a small chain is, bit for bit, what this controller makes of it")

    def _work(self, round_: Round, report: Report, proven: float) -> Check:
        message = (
            f"{proven:.4g} TFLOPS and more by our clock, in {round_.chain_s:.3g} s; {report.tflops:.4g} by its own"
        )
        base = Check("proof.work", "pass", message, f"{proven:.4g}", unit="TFLOPS")
        if proven < CLAIM * report.tflops:
            least = f"at least {CLAIM * report.tflops:.4g}"
            message = f"{message}: it did not do what it says"
            return replace(base, status="fail", message=message, required=least, remedy=_FORGED, code="forged-timing")
        if not self.real:
            return base
        if self.card is None:
            return replace(base, status="unknown", message=f"{message}; what such a card reaches is not known")
        limits = self.card.throughput
        warn, fail = (limits.warn * FLOOR, limits.fail * FLOOR) if limits else (0.0, self.card.tflops * FLOOR_OF_SHEET)
        status: Status = "fail" if proven < fail else "warn" if proven < warn else "pass"
        required = f"at least {fail:.4g}; usual {warn:.4g}"
        return replace(base, status=status, required=required, code=_unless_well(status, "slow"))

    def _coverage(self, round_: Round) -> Generator[Check, None, bool]:
        """Look at how much memory was filled; return whether enough to say anything of it."""
        if not self.real:
            return True
        total = (self.seen.memory_mib or 0) if self.seen else 0
        if self.card:  # one with ECC on has less than one without; what it shows is held against both elsewhere
            total = min(self.card.memory_mib, key=lambda mib: abs(mib - total)) if total else self.card.memory_mib[0]
        if not total:
            yield Check("proof.coverage", "unknown", "how much memory it has is not known")
            return True
        filled = round_.shape.stored / 2**20
        few, many = max(MISSING * total, MISSING_MIB), max(MISSING_FAIL * total, MISSING_FAIL_MIB)
        status: Status = "pass" if total - filled <= few else "warn" if total - filled <= many else "fail"
        message = f"{filled / total:.1%} of its memory was filled"
        remedy = None if status == "pass" else "something else holds memory: nvidia-smi"
        code = _unless_well(status, "vram-unavailable")
        required = f"{1 - few / total:.0%}"
        yield Check("proof.coverage", status, message, f"{filled / total:.1%}", required, remedy, code=code)
        return status != "fail"

    def _memory(self, round_: Round) -> Check:
        chain, commit = round_.chain_s or 0.0, max(0.0, (round_.commit_s or 0.0) - self.trip_s)
        stored = round_.shape.stored
        if self.real:
            peak = self.card.tflops * 1e12 if self.card else round_.shape.operations / max(chain, 1e-3)
            faster = FASTER * (2 if self.card is None or self.card.flop_per_clock_per_sm == HALF_RATE else 1)
            regenerated = commit * peak * faster / (2 * round_.shape.size)
            elsewhere = commit * BUS_GB_S * 1e9
        else:
            regenerated, elsewhere = 2 * commit / max(chain, 1e-3) * stored, 0.0
        # Layers could be packed, in the card's memory as anywhere else.
        held = max(0.0, INFORMATION - (INFORMATION * regenerated + elsewhere) / stored)
        status: Status = "fail" if held < HELD_FAIL else "warn" if held < HELD_WARN else "pass"
        message = f"committed to {_gib(stored)} in {commit:.2g} s, so that {_gib(held * stored)} were in its memory"
        remedy = None if status == "pass" else "its memory is not its own, or the connection is slow: try again"
        code = _unless_well(status, "memory-not-held")
        return Check("proof.memory", status, message, f"{held:.0%}", f"at least {HELD_WARN:.0%}", remedy, code=code)

    def _together(self, proven: float) -> Iterator[Check]:
        alone = self.proof.alone
        if alone is None or alone.proven_tflops is None:
            return
        share = proven / alone.proven_tflops
        status: Status = "fail" if share < TOGETHER_FAIL else "warn" if share < TOGETHER_WARN else "pass"
        yield Check(
            "proof.together", status, f"beside its siblings it is {share:.0%} as fast as alone", f"{share:.0%}",
            f"at least {TOGETHER_WARN:.0%}",
            None if status == "pass" else "one card may answer for several, or power or cooling do not suffice for all",
            code=_unless_well(status, "not-together"),
        )  # fmt: skip

    def _faults(self, report: Report) -> Iterator[Check]:
        for id_, count, what, code in (
            ("gpu.compute", report.wrong_rows, "rows of products have a wrong sum", "compute-errors"),
            ("gpu.retention", report.changed_rows, "rows changed while they were stored", "memory-errors"),
        ):
            status: Status = "fail" if count else "pass"
            remedy = _FAULTY if count else None
            yield Check(id_, status, f"{count} {what}", str(count), "0", remedy, code=_unless_well(status, code))

    def _speed(self, report: Report) -> Iterator[Check]:
        clock = self.load.sm_clock_mhz if self.load else None
        most = self.seen.max_sm_clock_mhz if self.seen else None
        if not self.real or self.card is None or not clock or not most:
            return
        speed = judge_throughput(self.card, report.tflops, clock, most)
        self.efficiency = speed.efficiency
        yield Check("gpu.speed", speed.status, speed.message, unit="TFLOPS", code=_unless_well(speed.status, "slow"))

    def _speeds(self) -> Iterator[Check]:
        measures = self.proof.measures
        if self.card is None:
            return
        if measures.copy_gb_s is not None:
            status, message = judge_bandwidth(self.card, measures.copy_gb_s)
            yield Check("gpu.bandwidth", status, message, unit="GB/s", code=_unless_well(status, "slow-memory"))
        if measures.fp32_tflops is not None and measures.fp64_tflops is not None:
            yield from self._precisions(self.card, measures.fp32_tflops, measures.fp64_tflops)
        if measures.to_card_gb_s is not None and measures.from_card_gb_s is not None:
            yield from self._bus(min(measures.to_card_gb_s, measures.from_card_gb_s), measures.launch_us)

    def _precisions(self, card: Card, fp32: float, fp64: float) -> Iterator[Check]:
        share = fp32 / card.fp32_tflops
        status: Status = "pass" if share >= FP32 else "warn" if share >= FP32 / 2 else "fail"
        message = f"{fp32:.3g} TFLOPS in fp32, {share:.0%} of the sheet's {card.fp32_tflops:g}"
        yield Check("gpu.fp32", status, message, unit="TFLOPS", code=_unless_well(status, "fused-fp32"))
        ratio, wanted = fp64 / fp32, card.fp64_tflops / card.fp32_tflops
        # Tensor cores double fp64 on some cards, so only too little of it tells another die.
        status = "pass" if ratio >= wanted / RATIO / 2 else "fail"
        message = f"fp64 is {ratio:.3f} of fp32; the sheet has {wanted:.3f}"
        yield Check("gpu.fp64", status, message, code=_unless_well(status, "other-silicon"))

    def _bus(self, slowest: float, launch: float | None) -> Iterator[Check]:
        generation, lanes = (self.load.pcie_generation, self.load.pcie_lanes) if self.load else (None, None)
        if generation in LANE_GB_S and lanes:
            raw = LANE_GB_S[generation] * lanes
            status: Status = "pass" if slowest >= LINK_SHARE * raw else "warn"
            message = f"{slowest:.3g} GB/s over PCIe {generation} x{lanes}, which carries {raw:.3g}"
            yield Check("gpu.bus.speed", status, message, unit="GB/s", code=_unless_well(status, "slow-bus"))
        most = self.seen.max_pcie_lanes if self.seen else None
        if lanes and most and lanes < most:
            message = f"its link has {lanes} of {most} lanes"
            yield Check("gpu.bus.lanes", "warn", message, code="narrow-bus", remedy="reseat it, or replace the riser")
        if launch is not None:
            status = "pass" if launch <= LAUNCH_US else "warn"
            message = f"starting and awaiting the least work takes {launch:.3g} µs"
            yield Check("gpu.latency", status, message, unit="µs", code=_unless_well(status, "far-away"))

    def _health(self) -> Iterator[Check]:
        if self.seen is None or self.after is None:
            yield Check("gpu.ecc", "unknown", "NVML was not to be read before and after")
            return
        new = max(0, (self.after.ecc_uncorrected or 0) - (self.seen.ecc_uncorrected or 0))
        status: Status = "fail" if new else "pass"
        message = f"{new} uncorrected memory errors under load"
        remedy = _FAULTY if new else None
        yield Check("gpu.ecc", status, message, str(new), "0", remedy, code=_unless_well(status, "ecc"))
        rows = self.after.remapped_rows
        if rows and rows.failed:
            yield Check("gpu.rows", "fail", "a faulty memory row could not be replaced", code="rows", remedy=_FAULTY)
        elif rows and rows.pending:
            yield Check("gpu.rows", "warn", "a faulty memory row waits for a reset to be replaced", remedy="reboot")
        for cause, most, found in _CAUSES:
            share = self.load.slowed_by.get(cause, 0.0) if self.load else 0.0
            if share > most:
                message = f"slowed by {cause} in {share:.0%} of the time under load"
                yield Check("gpu.throttle", found, message, code="throttled", remedy="check cooling and power supply")


_CAUSES: tuple[tuple[str, float, Status], ...] = (
    ("hardware slowdown", HOT_SHARE, "fail"),
    ("hardware thermal", HOT_SHARE, "fail"),
    ("power brake", HOT_SHARE, "fail"),
    ("software thermal", THERMAL_SHARE, "warn"),
)
_FAULTY = "take the card out of service; nvidia-smi -q, and the kernel's log for Xid lines, tell more"
_FORGED = "the program that answered is not ours, or the card is not what it says: examine the host by hand"
_REMEDIES = {
    "vram-unavailable": "something else holds the card's memory: nvidia-smi",
    "cuda-not-ready": "the fabric manager: systemctl status nvidia-fabricmanager",
    "no-gpu-access": _ACCESS,
    "unsupported-card": "the image's CUDA does not know the card: build one with a torch that does (gpu_proof_image)",
    "timeout": "the card hangs: the kernel's log for Xid lines, then a reset",
    "died": "the card's process was killed: dmesg tells whether for memory",
}


def _links(proof: Proof, names: Mapping[str, str | None]) -> Iterator[Check]:
    slow = []
    for link in proof.links:
        card = find(names.get(link.source) or "")
        if card and card.p2p_gb_s and link.gb_s < card.p2p_gb_s:
            slow.append(f"{link.source} to {link.to}: {link.gb_s:.3g} of {card.p2p_gb_s:g} GB/s")
    if slow:
        message = f"{len(slow)} links between cards are slow, the first {slow[0]}"
        remedy = "systemctl status nvidia-fabricmanager; nvidia-smi nvlink -s"
        yield Check("gpu.links", "fail", message, code="slow-link", remedy=remedy)
    linked = [name for name in names.values() if (card := find(name or "")) and card.p2p_gb_s]
    if len(linked) > 1 and not proof.links:
        yield Check("gpu.links", "unknown", "the links between cards could not be measured")


def _unless_well(status: Status, code: str) -> str | None:
    return None if status == "pass" else code


def _gib(count: float) -> str:
    return f"{count / 2**30:.3g} GiB"
