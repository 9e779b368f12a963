"""What a proof of real cards says: an honest H200 is accepted, and each thing that is not well has its own reason."""

from __future__ import annotations

from dataclasses import replace

import pytest

from celium_ops.cli import gpu_views
from celium_ops.gpu.arithmetic import Shape
from celium_ops.gpu.assessment import assess
from celium_ops.gpu.examination import CardProof, Proof, Round
from celium_ops.gpu.messages import CardLoad, Hello, Link, Measures, Nvml, Report, TorchCard
from celium_ops.gpu.report import HostReport, Reason
from celium_ops.gpu.verifier import Fault
from celium_ops.workflows.gpu import Proving, facts_of

SHAPE = Shape(16384, 547)
UUIDS = ("GPU-a", "GPU-b")


def nvml(**changes):
    cards = []
    for number, uuid in enumerate(UUIDS):
        card = {
            "uuid": uuid,
            "name": "NVIDIA H200",
            "pci": {"address": f"0000:0{number}:00.0", "board": "10DE:2335"},
            "memory_mib": 143771,
            "held_mib": 500,
            "capability": "9.0",
            "cores": 132 * 128,
            "max_sm_clock_mhz": 1980,
            "utilisation": 0,
            "memory_utilisation": 0,
            "processes": [],
            "power_limit_w": 700,
            "default_power_limit_w": 700,
            "max_pcie_lanes": 16,
            "ecc_uncorrected": 0,
            "remapped_rows": {"pending": False, "failed": False},
        }
        cards.append({**card, **(changes if number == 0 else {})})
    library = {"path": "/usr/lib/libnvidia-ml.so.580.95.05", "sha256": "0" * 64}
    return {"driver": "580.95.05", "count": 2, "library": library, "cards": cards}


def hello(**changes):
    seen = nvml()["cards"]
    kernel = [{"uuid": one["uuid"], "name": one["name"], "address": one["pci"]["address"]} for one in seen]
    bus = [one["pci"] for one in seen]
    said = {"mode": "cuda", "nvml": nvml(), "kernel": kernel, "bus": bus, "tampering": [], "cards": UUIDS}
    return Hello.model_validate({"protocol": "celium-ops/gpu-proof/1", **said, **changes})


TORCH = [TorchCard(uuid=uuid, name="NVIDIA H200", sm=132, memory_mib=143_000, capability="9.0") for uuid in UUIDS]
LOAD = CardLoad(
    sm_clock_mhz=1830, power_w=690, temperature_c=60, pcie_generation=5, pcie_lanes=16, slowed_by={"power cap": 0.5}
)
MEASURES = Measures(copy_gb_s=4300, fp32_tflops=60, fp64_tflops=55, to_card_gb_s=54, from_card_gb_s=55, launch_us=9)
SPEED = Report(seconds=8.0, tflops=780, wrong_rows=0, changed_rows=0)
TOGETHER = Round(SHAPE, chain_s=8.1, waited_s=0.1, commit_s=0.2, report=SPEED, load=LOAD)
GOLDEN = Round(Shape(256, 2), chain_s=0.1, commit_s=0.1, report=SPEED)
ALONE = Round(Shape(16384, 136), chain_s=1.98, commit_s=0.06, report=SPEED)


def proof(together=TOGETHER, card=None, **changes):
    """Return an honest proof of two cards; ``together`` and ``card`` are the first one's."""
    first = CardProof("GPU-a", GOLDEN, together, ALONE, MEASURES)
    cards = {"GPU-a": replace(first, **(card or {})), "GPU-b": CardProof("GPU-b", GOLDEN, TOGETHER, None, MEASURES)}
    links = [Link(source="GPU-a", to="GPU-b", gb_s=395), Link(source="GPU-b", to="GPU-a", gb_s=395)]
    whole = {"torch": TORCH, "links": links, "after": Nvml.model_validate(nvml())}
    return Proof(hello(), cards=cards, round_trip_s=0.05, **{**whole, **changes})


@pytest.mark.parametrize(("memory", "status"), [(46_068, "pass"), (49_140, "warn")])
def test_a_card_with_ecc_on_is_measured_by_what_it_has_then(memory, status):
    seen = nvml(name="NVIDIA RTX A6000", memory_mib=memory)
    kernel = [{"uuid": one["uuid"], "name": one["name"], "address": one["pci"]["address"]} for one in seen["cards"]]
    filled = replace(TOGETHER, shape=Shape(16384, 172))  # 43 GiB
    found = assess(replace(proof(filled), hello=hello(nvml=seen, kernel=kernel)))
    assert {check.status for check in found.cards["GPU-a"] if check.id == "proof.coverage"} == {status}


def test_an_honest_host_is_accepted():
    found = assess(proof())
    assert [(check.id, check.message) for check in found.checks if check.status != "pass"] == []
    assert (found.verdict, found.assurance, found.reasons) == ("accept", "work_proven", [])
    assert found.efficiencies["GPU-a"] == pytest.approx(0.79, abs=0.01)


WRONG = [
    ({"together": replace(TOGETHER, chain_s=20.0)}, "reject", "forged-timing"),
    ({"together": replace(TOGETHER, chain_s=24.0, report=SPEED.model_copy(update={"tflops": 200}))}, "reject", "slow"),
    ({"together": replace(TOGETHER, commit_s=0.9)}, "reject", "memory-not-held"),
    ({"together": replace(TOGETHER, commit_s=0.55)}, "unknown", "memory-not-held"),
    ({"together": replace(TOGETHER, shape=Shape(16384, 400), chain_s=5.9)}, "reject", "vram-unavailable"),
    ({"together": replace(TOGETHER, fault=Fault("wrong-product", "x"))}, "reject", "wrong-product"),
    ({"together": replace(TOGETHER, report=SPEED.model_copy(update={"wrong_rows": 1}))}, "reject", "compute-errors"),
    ({"together": replace(TOGETHER, report=SPEED.model_copy(update={"changed_rows": 1}))}, "reject", "memory-errors"),
    ({"together": None}, "unknown", "not-shown"),
    ({"card": {"golden": replace(GOLDEN, fault=Fault("inexact", "x"))}}, "reject", "inexact"),
    ({"card": {"golden": None}}, "unknown", "not-shown"),
    ({"card": {"failure": Fault("timeout", "x")}}, "reject", "timeout"),
    ({"card": {"measures": Measures()}}, "unknown", "not-shown"),
    ({"card": {"measures": MEASURES.model_copy(update={"copy_gb_s": 2000.0})}}, "reject", "slow-memory"),
    ({"card": {"measures": MEASURES.model_copy(update={"fp32_tflops": 5.0})}}, "reject", "fused-fp32"),
    ({"card": {"measures": MEASURES.model_copy(update={"fp64_tflops": 1.0})}}, "reject", "other-silicon"),
    ({"card": {"alone": replace(ALONE, chain_s=0.9)}}, "reject", "not-together"),
    ({"together": replace(TOGETHER, load=None)}, "unknown", "not-shown"),
    (
        {"together": replace(TOGETHER, load=LOAD.model_copy(update={"slowed_by": {"power brake": 0.3}}))},
        "reject",
        "throttled",
    ),
    ({"torch": None}, "unknown", "not-shown"),
    ({"links": [Link(source="GPU-a", to="GPU-b", gb_s=50)]}, "reject", "slow-link"),
    ({"after": Nvml.model_validate(nvml(ecc_uncorrected=2))}, "reject", "ecc"),
    ({"after": Nvml.model_validate(nvml(remapped_rows={"pending": False, "failed": True}))}, "reject", "rows"),
]


@pytest.mark.parametrize(
    ("changes", "verdict", "code"), WRONG, ids=[f"{code}-{n}" for n, (*_, code) in enumerate(WRONG)]
)
def test_what_is_not_well_has_its_own_reason(changes, verdict, code):
    found = assess(proof(**changes))
    assert (found.verdict, code in {reason.code for reason in found.reasons}) == (verdict, True), found.reasons


LATE = replace(TOGETHER, chain_s=20.0)
BY_CLOCK = [
    ({}, False),
    ({"together": LATE}, True),
    ({"together": replace(TOGETHER, commit_s=0.9)}, True),
    ({"card": {"alone": replace(ALONE, chain_s=0.9)}}, True),
    ({"together": replace(TOGETHER, fault=Fault("wrong-product", "x"))}, False),
    ({"together": LATE, "card": {"golden": replace(GOLDEN, fault=Fault("inexact", "x"))}}, False),
    ({"together": LATE, "links": [Link(source="GPU-a", to="GPU-b", gb_s=50)]}, False),
]


@pytest.mark.parametrize(("changes", "late"), BY_CLOCK)
def test_a_busy_controller_is_told_from_what_no_clock_excuses(changes, late):
    assert assess(proof(**changes)).only_late is late


SAID = [
    ({"cards": ["GPU-a"]}, "hidden"),
    ({"cards": []}, "no-cards"),
    ({"nvml": nvml(uuid=None)}, "lost"),
    ({"mode": "simulated"}, "no-cuda"),
]


@pytest.mark.parametrize(("changes", "code"), SAID, ids=[code for _, code in SAID])
def test_cards_that_are_not_shown_are_missed(changes, code):
    whole = proof()
    whole.hello = hello(**changes)
    whole.cards = {uuid: card for uuid, card in whole.cards.items() if uuid in whole.hello.cards}
    found = assess(whole)
    assert (found.verdict, code in {reason.code for reason in found.reasons}) == ("reject", True), found.reasons


def test_another_name_than_the_boards_is_exposed_and_an_unknown_card_is_never_accepted():
    whole = proof()
    whole.hello = hello(nvml=nvml(name="NVIDIA B200"))
    found = assess(whole)
    assert {"gpu.name", "gpu.kernel.name", "gpu.torch.name"} <= {check.id for check in found.reasons}
    assert (found.verdict, found.assurance) == ("reject", "self_reported")


def test_what_the_validator_would_find_is_taken_from_the_proof():
    facts = facts_of(proof(), assess(proof()))
    assert facts.facts["uuids"] == sorted(UUIDS)
    assert (facts.facts["gpu_count"], facts.facts["kernel_gpu_count"], facts.facts["proof"]) == (2, 2, "pass")
    assert facts.cards[0]["power_limit_ratio"] == 1.0


def test_a_report_is_shown_whatever_its_names_are(capsys):
    host = HostReport("gpu[/1]", "reject", mode="cuda", reasons=(Reason("[bold", "[/x] is no markup"),))
    gpu_views.show_proving(Proving("run", [host]))
    assert "[/x] is no markup" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("report", "ok"),
    [
        (HostReport("a", "skipped", reasons=(Reason("rented", ""),)), True),
        (HostReport("a", "unknown", reasons=(Reason("not-examined", ""),)), False),
        (HostReport("a", "unknown", mode="simulated"), True),
        (HostReport("a", "unknown", mode="cuda", assurance="cross_checked"), False),
        (HostReport("a", "unknown", mode="cuda", assurance="work_proven"), True),
        (HostReport("a", "reject", mode="cuda", assurance="work_proven"), False),
    ],
)
def test_well_is_who_was_examined_and_has_proven_its_work(report, ok):
    assert report.ok is ok
