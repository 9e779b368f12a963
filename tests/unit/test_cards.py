"""What changed of the cards since hosts showed them last is named, with both ends of it; what stayed is not."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from celium_ops.journal.fleet_state import fleet_dir
from celium_ops.journal.runs import Journal
from celium_ops.workflows.cards import Shown, changes, last_shown
from celium_ops.workflows.preflight import HostPreflight, _changed
from celium_ops.workflows.proofs import COMMAND

A, B = "192.0.2.1:8001", "192.0.2.2:8001"
PLACES = {"a": A, "b": B}


def shown(*cards, place=A, day="2026-11-01"):
    return Shown(day, place, frozenset(cards))


def found(now, before):
    cards = {name: frozenset(uuids) for name, uuids in now.items()}
    return {name: (check.status, check.code, check.message) for name, check in changes(cards, PLACES, before).items()}


SINCE = "since 2026-11-01: "
CASES = {
    "the same": (
        {"a": ["G1", "G2"]},
        {"a": shown("G2", "G1")},
        {"a": ("pass", None, "its cards are those of 2026-11-01")},
    ),
    "seen for the first time": ({"a": ["G1"]}, {}, {}),
    "replaced": (
        {"a": ["G1", "G3"]},
        {"a": shown("G1", "G2")},
        {"a": ("warn", "GPU_UUID_CHANGED", f"{SINCE}G3 is new; G2 is gone")},
    ),
    "one less": ({"a": ["G1"]}, {"a": shown("G1", "G2")}, {"a": ("warn", "GPU_UUID_CHANGED", f"{SINCE}G2 is gone")}),
    "exchanged between two": (
        {"a": ["G2"], "b": ["G1"]},
        {"a": shown("G1"), "b": shown("G2", place=B)},
        {
            "a": ("warn", "GPU_UUID_CHANGED", f"{SINCE}G2 was in b; G1 is in b now"),
            "b": ("warn", "GPU_UUID_CHANGED", f"{SINCE}G1 was in a; G2 is in a now"),
        },
    ),
    "into a host that is new": (
        {"a": ["G1"], "b": ["G2"]},
        {"a": shown("G1", "G2")},
        {"a": ("warn", "GPU_UUID_CHANGED", f"{SINCE}G2 is in b now"), "b": ("warn", None, "G2 was in a")},
    ),
    "out of a host that has left": (
        {"a": ["G1"]},
        {"a": shown("G0"), "gone": shown("G1", place="192.0.2.7:1"), "older": shown("G1", day="2026-10-01")},
        {"a": ("warn", "GPU_UUID_CHANGED", f"{SINCE}G1 was in gone; G0 is gone")},
    ),
    "another address is another executor": ({"a": ["G1"]}, {"a": shown("G2", place=B)}, {}),
    "a host that shows nothing now": ({}, {"a": shown("G1")}, {}),
}


@pytest.mark.parametrize("case", CASES)
def test_what_changed_is_named_with_both_hosts(case):
    now, before, expected = CASES[case]
    assert found(now, before) == expected


UUIDS = st.frozensets(st.sampled_from(["G1", "G2", "G3", "G4"]), min_size=1)


@given(st.dictionaries(st.sampled_from(["a", "b"]), UUIDS), st.dictionaries(st.sampled_from(["a", "b"]), UUIDS))
def test_every_card_that_came_or_went_is_named_and_no_other(now, before):
    last = {name: shown(*cards, place=PLACES[name]) for name, cards in before.items()}
    said = changes(now, PLACES, last)
    for name, cards in now.items():
        elsewhere = set().union(*(before[other] for other in before if other != name))
        named = cards ^ before[name] if name in before else cards & elsewhere
        message = said[name].message if name in said else ""
        assert {card for card in ("G1", "G2", "G3", "G4") if card in message} == named
        assert (name in said and said[name].status == "warn") == bool(named)


def host(name, *uuids, read=True):
    facts = {"host": {"uuids": list(uuids)} if read else {}, "cards": []}
    return HostPreflight(name, "executor", True, False, (), {"verdict": "accept", "facts": facts})


def proof(*uuids, simulated=False):
    facts = {"host": {"uuids": list(uuids)}, "cards": []}
    return None if simulated else {"verdict": "accept", "facts": facts}


def test_the_last_run_that_saw_cards_is_what_they_are_held_against(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    inventory = tmp_path / "fleet.yml"
    assert last_shown(inventory) == {}
    journal = Journal(fleet_dir(inventory))
    for command, predictions in (
        (COMMAND, {"a": proof("G1"), "b": proof("G9")}),
        (COMMAND, {"a": proof("G2", "G3")}),
        (COMMAND, {"a": None, "c": proof(simulated=True)}),  # not reached; of a rehearsal
        ("deploy", {"a": proof("G7")}),
    ):
        run = journal.begin(command, {})
        hosts = [{"name": name, "prediction": seen} for name, seen in predictions.items()]
        journal.detail(run, {"hosts": hosts, "places": {"a": A}})
        journal.finish(run, "ok")
    seen = last_shown(inventory)
    assert {name: (one.place, set(one.cards)) for name, one in seen.items()} == {
        "a": (A, {"G2", "G3"}),
        "b": (None, {"G9"}),
    }


def test_a_driver_that_does_not_answer_has_changed_no_card():
    rows = [host("a", read=False), HostPreflight("b", "miner", True, False, ())]
    assert _changed(rows, [], {"a": shown("G1")}) == rows
