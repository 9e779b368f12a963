"""Which executors are asked for their collateral, and what becomes of those that have some, or may have."""

import itertools
from collections import Counter
from fractions import Fraction

import pytest

from celium_ops.assignment.model import Row, Validator
from celium_ops.assignment.solve import solve
from celium_ops.remote.collateral import Amount, Amounts, read
from celium_ops.workflows.collateral import keeping_collateral, unread_warnings

TWO = [Validator("one", 30), Validator("two", 30)]


def kept(held, *rows, unreadable=None):
    """Return the moves and what was asked for, in order, when these executors are under collateral, and the rest."""
    asked = []

    def ask(names):
        asked.append(sorted(names))
        amounts = [held.get(name, 0.0) for name in names]
        known = [Amount(None, amount) if isinstance(amount, str) else Amount(amount) for amount in amounts]
        return Amounts((), unreadable) if unreadable else Amounts(tuple(known))

    found = keeping_collateral(tuple(rows), lambda them: solve(them, TWO, Fraction(1, 2)), ask)
    moves = {move.executor: move.to for move in found.plan.moves}
    return moves, asked, {row.executor: row.lock for row in found.rows if row.lock}, dict(found.unread)


def test_nobody_is_asked_when_nothing_moves():
    assert kept({}, Row("a", "one"), Row("b", "two"), Row("c")) == ({"c": "one"}, [], {}, {})


def test_who_is_asked_and_has_none_moves():
    assert kept({}, Row("a", "gone"), Row("b", "gone")) == ({"a": "one", "b": "two"}, [["a", "b"]], {}, {})


def test_an_executor_whose_collateral_could_not_be_read_stays_and_the_others_move():
    moves, asked, locks, unread = kept({"a": "no answer"}, Row("a", "gone"), Row("b", "gone"), Row("c"))
    assert set(moves) == {"b", "c"}
    assert asked == [["a", "b"]]
    assert locks == {"a": "its collateral could not be read (no answer)"}
    assert unread == {"a": "no answer"}


def test_when_nothing_can_be_read_nothing_moves_and_it_is_asked_once():
    rows = [Row("a", "gone"), *(Row(name, "one") for name in "bcd"), Row("new")]
    moves, asked, locks, unread = kept({}, *rows, unreadable="the contract is silent")
    assert set(moves) == {"new"}, "only one that has a validator can lose it"
    assert len(asked) == 1
    assert unread == dict.fromkeys(asked[0], "the contract is silent")
    assert locks == dict.fromkeys(asked[0], "its collateral could not be read (the contract is silent)")


def test_who_has_some_stays_and_the_others_are_asked_when_they_have_to_move_instead():
    rows = [Row(name, "one") for name in "abcd"]
    moves, asked, locks, unread = kept({"a": 1.5, "b": 1.5, "c": 2}, *rows)
    assert len(asked[0]) == 2
    assert max(Counter(itertools.chain(*asked)).values()) == 1, "nobody is asked twice"
    assert set(moves) == {"d"}
    assert locks == {name: f"under collateral ({2 if name == 'c' else 1.5} TAO)" for name in "abc"}
    assert unread == {}


def test_a_warning_names_the_executors_why_and_how_to_go_on():
    unread = {"a": "no answer", **dict.fromkeys("bcdefgh", "upstream said: x")}
    first, second = unread_warnings(unread, {"a": "executor-1"})
    assert first.startswith("the collateral of executor-1 could not be read (no answer): it stays; ")
    assert second.startswith(
        "the collateral of b, c, d, e, f and 2 more could not be read (upstream said: x): they stay; "
    )
    assert "miner_assign_keep_collateral: false" in first
    assert "miner_evm_rpc_url" in first


UNUSABLE = Amounts(unreadable="the miner's host gave no usable answer")
ANSWERS = [
    ('[null, [[1.5, null], [null, "why"]]]', Amounts((Amount(1.5), Amount(None, "why")))),
    ('["upstream said: x", []]', Amounts(unreadable="upstream said: x")),
    ("[null, [[0.0, null]]]", UNUSABLE),
    ("[null, [[-1, null], [0, null]]]", UNUSABLE),
    ("[null, [[NaN, null], [Infinity, null]]]", UNUSABLE),
    ('[null, [["1", null], [0, null]]]', UNUSABLE),
    ("[null, [[true, null], [0, null]]]", UNUSABLE),
    ("[null, [null, null]]", UNUSABLE),
    ("[" * 100_000, UNUSABLE),
    ("Traceback", UNUSABLE),
    ("", UNUSABLE),
]


@pytest.mark.parametrize(("output", "found"), ANSWERS)
def test_an_answer_of_a_host_is_believed_only_when_it_is_one(output, found):
    assert read(output, 2) == found


def test_a_reason_of_a_host_is_one_short_line():
    reason = read(f'["{"x" * 9_999}", []]', 2).unreadable
    assert reason == "x" * 400
    assert read('["a\\u001b[31m\\nb", []]', 2).unreadable == "a [31m b"
