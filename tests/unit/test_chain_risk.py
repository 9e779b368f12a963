"""Whom the chain evicts next."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from subnet import BLOCK, OWNER, neuron, subnet

from celium_ops.chain.risk import eviction_order, standings

FRESH = BLOCK - 10

# (what tells the UIDs 0, 1, 2 ... from each other, the subnet's settings, the order of eviction)
ORDERS = {
    "the lowest emission goes first": ([{"emission": 3}, {"emission": 1}, {"emission": 2}], {}, (1, 2, 0)),
    "then the oldest registration": ([{"registered_at": 9}, {"registered_at": 8}, {"registered_at": 7}], {}, (2, 1, 0)),
    "then the lowest UID": ([{}, {}, {}], {}, (0, 1, 2)),
    "the immune go last": ([{"emission": 0, "registered_at": FRESH}, {"emission": 5}], {}, (1, 0)),
    "immunity ends with its last block": (
        [{"registered_at": BLOCK - 999}, {"registered_at": BLOCK - 1_000}],
        {},
        (1, 0),
    ),
    "the last that are not immune stay": (
        [{"emission": 1}, {"emission": 2}, {"registered_at": FRESH}],
        {"min_non_immune_uids": 1},
        (0, 2),
    ),
    "nobody is evicted when all are the last ones": ([{}, {}], {"min_non_immune_uids": 2}, ()),
    "the owner's oldest hotkey stays": (
        [{"coldkey": OWNER, "registered_at": 5}, {"coldkey": OWNER, "registered_at": 4}, {}],
        {},
        (0, 2),
    ),
    "the hotkey of the subnet's owner comes before it": (
        [{"coldkey": OWNER, "registered_at": 5}, {"hotkey": "owner-hotkey", "registered_at": 6}],
        {},
        (0,),
    ),
    "as many of the owner's stay as the limit says": (
        [{"coldkey": OWNER}, {"coldkey": OWNER}, {"coldkey": OWNER, "hotkey": "owner-hotkey"}],
        {"immune_owner_uids_limit": 2},
        # Its own hotkey is not among the two oldest, so it takes the place of the second.
        (1,),
    ),
    "the owner's do not count as the last ones": (
        [{"coldkey": OWNER}, {"emission": 1}, {"emission": 2}],
        {"min_non_immune_uids": 1},
        (1,),
    ),
}


@pytest.mark.parametrize(("rows", "changes", "expected"), ORDERS.values(), ids=ORDERS)
def test_order(rows, changes, expected):
    found = subnet(*(neuron(uid, **row) for uid, row in enumerate(rows)), **changes)
    assert eviction_order(found) == expected


def test_standing():
    found = subnet(
        neuron(0, coldkey=OWNER),
        neuron(1, emission=5),
        neuron(2, emission=4),
        neuron(3, registered_at=BLOCK - 400),
        max_uids=10,
        min_non_immune_uids=1,
    )
    assert [(one.rank, one.protection, one.immune_blocks, one.registrations) for one in standings(found).values()] == [
        (None, "owner", 0, None),
        (None, "floor", 0, None),
        (1, None, 0, 7),  # six free slots, then it
        (2, None, 600, 8),
    ]


@st.composite
def subnets(draw):
    row = st.fixed_dictionaries(
        {
            "emission": st.integers(0, 3),
            "registered_at": st.sampled_from([1, 2, 3, BLOCK - 1_000, BLOCK - 999, BLOCK - 1]),
            "coldkey": st.sampled_from([OWNER, "a", "b"]),
        }
    )
    rows = [neuron(uid, **one) for uid, one in enumerate(draw(st.lists(row, max_size=9)))]
    own = draw(st.none() | st.sampled_from(range(9)))
    changes = {"owner_hotkey": f"hotkey-{own}"} if own is not None else {}
    return subnet(
        *rows,
        min_non_immune_uids=draw(st.integers(0, 4)),
        immune_owner_uids_limit=draw(st.integers(0, 3)),
        **changes,
    )


def victim(found, there):
    """Return whom the chain evicts, told the way the chain does it: one pass, the best candidate of each kind kept."""
    settings_ = found.subnet
    owned = sorted((n.registered_at, n.uid, n.hotkey) for n in found.neurons if n.coldkey == OWNER)
    immortal = [hotkey for _, _, hotkey in owned][: settings_.immune_owner_uids_limit]
    if settings_.owner_hotkey in [n.hotkey for n in found.neurons] and settings_.owner_hotkey not in immortal:
        immortal = [settings_.owner_hotkey, *immortal][: settings_.immune_owner_uids_limit]
    best, free = {}, 0
    for one in there:
        if one.hotkey in immortal:
            continue
        immune = found.block - one.registered_at < settings_.immunity_period
        free += not immune
        mark = (one.emission, one.registered_at, one.uid)
        best[immune] = min(best.get(immune, mark), mark)
    chosen = best.get(False) if free > settings_.min_non_immune_uids else None
    chosen = chosen or best.get(True)
    return chosen and chosen[2]


@settings(max_examples=300)
@given(subnets())
def test_the_order_is_that_of_one_eviction_after_the_other(found):
    there, order = list(found.neurons), []
    while (uid := victim(found, there)) is not None:
        order.append(uid)
        there = [one for one in there if one.uid != uid]
    assert eviction_order(found) == tuple(order)


@settings(max_examples=100)
@given(subnets())
def test_every_uid_has_a_rank_or_a_protection(found):
    found_standings = standings(found)
    assert set(found_standings) == {one.uid for one in found.neurons}
    assert all((one.rank is None) == (one.protection is not None) for one in found_standings.values())
