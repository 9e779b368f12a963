"""Which validators executors may be given to."""

from fractions import Fraction

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from subnet import BLOCK, RAO, neuron, subnet

from celium_ops.chain.eligible import LIUM_VALIDATOR, Rules, judge, rules_of, share, whole

# (what the validator is like, the rules, the reasons against it)
CASES = {
    "a good one": ({}, Rules(), ()),
    "without a permit": ({"validator_permit": False}, Rules(), ("no permit",)),
    "not active": ({"active": False}, Rules(), ("not active",)),
    "silent": ({"last_update": BLOCK - 1_801}, Rules(), ("no weights for 1801 blocks, at most 1800",)),
    "silent, but not for long": ({"last_update": BLOCK - 1_800}, Rules(), ()),
    "hardly any alpha": ({"alpha_stake": 10 * RAO - 1}, Rules(), ("less than 10 alpha",)),
    "just enough alpha": ({"alpha_stake": 10 * RAO}, Rules(), ()),
    "a rao too little": ({"total_stake": 20_000 * RAO - 1}, Rules(), ("stake weight below 20,000",)),
    "just enough": ({"total_stake": 20_000 * RAO}, Rules(), ()),
    "other thresholds": (
        {},
        Rules(min_alpha=40_000 * RAO, min_total=30_000 * RAO + 1),
        ("less than 40,000 alpha", "stake weight below 30,000.000000001"),
    ),
    "denied": ({}, Rules(deny=frozenset({"hotkey-0"})), ("denied",)),
    "allowed": ({}, Rules(allow=frozenset({"hotkey-0"})), ()),
    "others are allowed": ({}, Rules(allow=frozenset({"x"})), ("not in the list of those allowed",)),
    "denied though allowed": ({}, Rules(allow=frozenset({"hotkey-0"}), deny=frozenset({"hotkey-0"})), ("denied",)),
    "the only one": ({}, Rules(only="hotkey-0"), ()),
    "not the only one": ({}, Rules(only="x"), ("not the one validator that upstream's miner accepts",)),
    "the only one, and not active": ({"active": False}, Rules(only="hotkey-0"), ("not active",)),
}


@pytest.mark.parametrize(("changes", "rules", "reasons"), CASES.values(), ids=CASES)
def test_judge(changes, rules, reasons):
    (found,) = judge(subnet(neuron(0, **changes)), rules)
    assert (found.reasons, found.eligible) == (reasons, not reasons)


def test_the_largest_stake_comes_first():
    stakes = {0: 5, 1: 7, 2: 7, 3: 9}
    found = judge(subnet(*(neuron(uid, total_stake=stake) for uid, stake in stakes.items())), Rules())
    assert [one.neuron.uid for one in found] == [3, 1, 2, 0]


RULES = {
    "upstream's": ({"celium_dialect": "celium"}, Rules()),
    "the miner's thresholds": (
        {"celium_dialect": "celium", "miner_min_alpha_stake": 0, "miner_min_total_stake": 5},
        Rules(min_alpha=0, min_total=5 * RAO),
    ),
    "lium": ({"celium_dialect": "lium"}, Rules(only=LIUM_VALIDATOR)),
    "lium with another validator": ({"celium_dialect": "lium", "miner_default_validator": "x"}, Rules(only="x")),
    "celium does not know the default": ({"celium_dialect": "celium", "miner_default_validator": "x"}, Rules()),
}


@pytest.mark.parametrize(("values", "expected"), RULES.values(), ids=RULES)
def test_rules_of_a_miner(values, expected):
    assert rules_of(values) == expected


def test_shares_are_of_the_stake_that_is_named():
    holder, idle, plain = (
        neuron(0, total_stake=60),
        neuron(1, total_stake=20, active=False),
        neuron(2, total_stake=20, validator_permit=False),
    )
    found = subnet(holder, idle, plain)
    assert {of: whole(found, of) for of in ("permit", "active", "all")} == {"permit": 80, "active": 60, "all": 100}
    shares = {of: [share(one, whole(found, of), of) for one in found.neurons] for of in ("permit", "active", "all")}
    assert shares == {
        "permit": [Fraction(3, 4), Fraction(1, 4), None],
        "active": [1, None, None],
        "all": [Fraction(3, 5), Fraction(1, 5), Fraction(1, 5)],
    }


def test_without_any_stake_nobody_has_a_share():
    assert share(neuron(0, total_stake=0), 0) is None


@settings(max_examples=100)
@given(st.lists(st.tuples(st.integers(0, 21 * 10**15), st.booleans(), st.booleans()), min_size=1, max_size=20))
def test_shares_make_up_the_whole(rows):
    neurons = [neuron(uid, total_stake=s, validator_permit=p, active=a) for uid, (s, p, a) in enumerate(rows)]
    found = subnet(*neurons)
    for of in ("permit", "active", "all"):
        of_all = whole(found, of)
        shares = [part for one in neurons if (part := share(one, of_all, of)) is not None]
        assert sum(shares) == (1 if of_all else 0), "exactly"
