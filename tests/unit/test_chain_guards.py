"""What is believed of a reading of the chain."""

from datetime import timedelta

import pytest
from subnet import BLOCK, NOW, RAO, neuron, subnet

from celium_ops.base.errors import GuardError, UsageError
from celium_ops.chain import guards
from celium_ops.chain.guards import Limits, believe, check
from celium_ops.chain.networks import NETWORKS

TEN = tuple(neuron(uid) for uid in range(10))
GOOD = subnet(*TEN)
FINNEY = NETWORKS["finney"].genesis


def minutes(count):
    return NOW - timedelta(minutes=count)


# (the reading, the last good one, the guard that stops it, a piece of its message)
STOPPED = {
    "an old block": (subnet(*TEN, block_time=minutes(21)), None, "chain-stale", "105 blocks ago; at most 100"),
    "a block of the future": (subnet(*TEN, block_time=minutes(-21)), None, "chain-stale", "still to come"),
    "another chain by its name": (subnet(*TEN, network="finney"), None, "chain-wrong-genesis", FINNEY),
    "another chain than before": (
        subnet(*TEN, genesis="0x" + "2" * 64),
        GOOD,
        "chain-wrong-genesis",
        "it should be 0x1111",
    ),
    "no neurons": (subnet(), None, "chain-empty", "has no neurons"),
    "no neurons any more": (subnet(), GOOD, "chain-empty", "has no neurons"),
    "UIDs gone": (subnet(*TEN[:7]), GOOD, "chain-uids-dropped", "7 UIDs are left of 10"),
}


@pytest.mark.parametrize(("found", "previous", "code", "message"), STOPPED.values(), ids=STOPPED)
def test_stopped(found, previous, code, message):
    with pytest.raises(GuardError, match=message) as stopped:
        check(found, previous, NOW)
    assert (stopped.value.code, int(stopped.value.exit_code)) == (code, 4)
    assert f"--override {code}" in (stopped.value.remedy or "")
    # An empty subnet has lost its UIDs too: each guard is overridden by its own code.
    check(found, previous, NOW, override=[code, *(["chain-uids-dropped"] if code == "chain-empty" else [])])


BELIEVED = {
    "the first reading": (GOOD, None),
    "the same again": (GOOD, GOOD),
    "as old as may be": (subnet(*TEN, block_time=minutes(20)), GOOD),
    "a fifth of the UIDs gone": (subnet(*TEN[:8]), GOOD),
    "more UIDs": (subnet(*TEN, neuron(10)), GOOD),
    "the main chain": (subnet(*TEN, network="finney", genesis=FINNEY), None),
    "any chain of a node without a name": (subnet(*TEN, genesis="0x" + "2" * 64), None),
    "another subnet than before": (subnet(*TEN[:2]), GOOD.model_copy(update={"netuid": 12})),
}


@pytest.mark.parametrize(("found", "previous"), BELIEVED.values(), ids=BELIEVED)
def test_believed(found, previous):
    check(found, previous, NOW)


def test_one_override_does_not_hide_another_guard():
    found = subnet(*TEN[:7], block_time=minutes(60))
    with pytest.raises(GuardError, match="7 UIDs"):
        check(found, GOOD, NOW, override=["chain-stale"])


def test_limits_count():
    check(subnet(*TEN[:4], block_time=minutes(60)), GOOD, NOW, limits=Limits(age_blocks=300, dropped=0.6))
    with pytest.raises(GuardError, match="at most 5"):
        check(subnet(*TEN, block_time=minutes(2)), None, NOW, limits=Limits(age_blocks=5))


@pytest.mark.parametrize("code", ["stale", guards.NO_SUBNET])
def test_what_cannot_be_overridden_is_refused(code):
    with pytest.raises(UsageError, match="can be overridden"):
        check(GOOD, None, NOW, override=[code])


# The second look


def shares(*stakes, block=BLOCK):
    return subnet(*(neuron(uid, total_stake=stake * RAO) for uid, stake in enumerate(stakes)), block=block)


def chain(*, newest, one_before=None, seven_before=None):
    """Return what reads a chain, and the blocks it was asked for; its stake was always so, unless it is said."""
    asked = []
    blocks = {None: newest, BLOCK - 1: one_before or newest, BLOCK - 7: seven_before or newest}

    def read(block):
        asked.append(block)
        return blocks[block]

    return read, asked


def test_stake_that_is_where_it_was_is_believed_at_once():
    read, asked = chain(newest=shares(995, 505))
    assert believe(read, shares(1_000, 500), NOW) == shares(995, 505)
    assert asked == [None]


@pytest.mark.parametrize("previous", [None, shares(500, 1_000), GOOD.model_copy(update={"network": "ws://other:1"})])
def test_stake_that_has_shifted_is_looked_at_again_in_older_blocks(previous):
    read, asked = chain(newest=shares(1_000, 500))
    assert believe(read, previous, NOW) == shares(1_000, 500)
    assert asked == [None, BLOCK - 1, BLOCK - 7]


@pytest.mark.parametrize("when", ["one_before", "seven_before"])
@pytest.mark.parametrize("then", [shares(500, 1_000), shares(1_000, 470), shares(), shares(0, 0)])
def test_stake_that_was_elsewhere_a_few_blocks_ago_is_not_acted_on(when, then):
    read, _ = chain(newest=shares(1_000, 500), **{when: then})
    with pytest.raises(GuardError, match="of the validators' stake is elsewhere at block") as stopped:
        believe(read, shares(500, 1_000), NOW)
    assert (stopped.value.code, int(stopped.value.exit_code)) == ("chain-stake-unsettled", 4)
    assert believe(read, shares(500, 1_000), NOW, override=["chain-stake-unsettled"]) == shares(1_000, 500)


def test_a_young_chain_has_no_older_blocks():
    young = shares(1_000, 500, block=1).model_copy(update={"block": 0})
    read, asked = chain(newest=young)
    assert believe(read, None, NOW) == young
    assert asked == [None]
