"""Which executors are asked for their collateral, and what becomes of those that have some."""

import itertools
from collections import Counter
from fractions import Fraction

from celium_ops.assignment.model import Row, Validator
from celium_ops.assignment.solve import solve
from celium_ops.workflows.collateral import keeping_collateral

TWO = [Validator("one", 30), Validator("two", 30)]


def kept(held, *rows):
    """Return the moves and what was asked for, in order, when these executors are under collateral."""
    asked = []

    def ask(names):
        asked.append(sorted(names))
        return [held.get(name, 0.0) for name in names]

    found, plan = keeping_collateral(tuple(rows), lambda them: solve(them, TWO, Fraction(1, 2)), ask)
    return {move.executor: move.to for move in plan.moves}, asked, {row.executor: row.lock for row in found if row.lock}


def test_nobody_is_asked_when_nothing_moves():
    assert kept({}, Row("a", "one"), Row("b", "two"), Row("c")) == ({"c": "one"}, [], {})


def test_who_is_asked_and_has_none_moves():
    assert kept({}, Row("a", "gone"), Row("b", "gone")) == ({"a": "one", "b": "two"}, [["a", "b"]], {})


def test_what_nobody_can_tell_does_not_hold_anybody():
    assert kept({"a": None, "b": None}, Row("a", "gone"), Row("b", "gone"))[0] == {"a": "one", "b": "two"}


def test_who_has_some_stays_and_the_others_are_asked_when_they_have_to_move_instead():
    rows = [Row(name, "one") for name in "abcd"]
    moves, asked, locks = kept({"a": 1.5, "b": 1.5, "c": 2}, *rows)
    assert len(asked[0]) == 2
    assert max(Counter(itertools.chain(*asked)).values()) == 1, "nobody is asked twice"
    assert set(moves) == {"d"}
    assert locks == {name: f"under collateral ({2 if name == 'c' else 1.5} TAO)" for name in "abc"}
