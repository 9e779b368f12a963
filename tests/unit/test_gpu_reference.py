"""The table of cards, held against itself, and what speeds say of a card."""

import pytest

from celium_ops.gpu import reference
from celium_ops.gpu.reference import cards, find, judge_bandwidth, judge_throughput, named_by_board
from celium_ops.verdict import ruleset

H200, RTX4090, L40, L40S = (find(f"NVIDIA {name}") for name in ("H200", "GeForce RTX 4090", "L40", "L40S"))


def test_each_card_is_there_once():
    names = [card.name for card in cards()]
    boards = [board for card in cards() for board in card.pci]
    assert len(set(names)) == len(names) >= 29
    assert len(set(boards)) == len(boards)


@pytest.mark.parametrize(
    "card", [card for card in cards() if card.clock_mhz and not card.circular], ids=lambda c: c.name
)
def test_the_sheets_throughput_follows_from_silicon_and_clock(card):
    assert card.ceiling(card.clock_mhz) == pytest.approx(card.tflops, rel=0.006)


@pytest.mark.parametrize("card", cards(), ids=lambda card: card.name)
def test_the_limits_are_in_order(card):
    assert card.bandwidth.fail < card.bandwidth.warn < card.bandwidth_gb_s
    if card.throughput:
        assert card.throughput.fail < card.throughput.warn < (card.best_tflops or card.tflops)
    assert set(card.unsure) <= set(type(card).model_fields)


def test_the_sizes_of_the_rule_set_are_those_of_the_cards():
    sizes = ruleset.load("2026-09").tables["sizes"].entries
    for name, known in sizes.items():
        card = find(name)
        assert card, name
        assert known[0] in card.memory_mib, name


# A card, TFLOPS, clock, highest clock, and what becomes of it.
SPEEDS = [
    (H200, 790, 1830, 1980, "pass", "80% of what NVIDIA H200 does at 1830 MHz"),
    # Half of the power: fewer clocks, each as good as ever.
    (H200, 400, 925, 1980, "warn", "51% of its clock: capped, or too hot"),
    # A 4090 that says it is a 6000 Ada does half of what one does in a clock.
    (find("NVIDIA RTX 6000 Ada Generation"), 165, 2520, 3105, "fail", "other silicon than its name says"),
    (L40S, 170, 2490, 2520, "fail", "other silicon than its name says"),
    (L40S, 200, 2490, 2520, "warn", "less than is usual"),
    (L40, 170, 2490, 2520, "pass", "94%"),
    (RTX4090, 179, 2730, 3105, "pass", "GeForce RTX 4090"),
    (RTX4090, 330, 2520, 3105, "fail", "more than the card can do"),
    (H200, 790, 0, 1980, "error", "no measurement"),
    (H200, 790, 1830, 0, "error", "no measurement"),
]


@pytest.mark.parametrize(("card", "tflops", "clock", "highest", "status", "message"), SPEEDS)
def test_speed_is_judged_per_clock_and_by_the_clock(card, tflops, clock, highest, status, message):
    speed = judge_throughput(card, tflops, clock, highest)
    assert (speed.status, message in speed.message) == (status, True), speed


@pytest.mark.parametrize(
    "card", [card for card in cards() if card.best_tflops and card.clock_mhz], ids=lambda c: c.name
)
def test_what_was_measured_of_good_cards_never_fails(card):
    # Boards clock above and below their sheets; without the clock of the measurement the sheet's is the nearest.
    speed = judge_throughput(card, card.best_tflops, card.clock_mhz * 1.1, card.clock_mhz * 1.25)
    assert speed.status in ("pass", "warn"), speed


BANDWIDTHS = [(4300, "pass"), (3500, "warn"), (3000, "fail"), (4950, "error")]


@pytest.mark.parametrize(("gb_s", "status"), BANDWIDTHS)
def test_bandwidth_is_held_against_the_sheet(gb_s, status):
    assert judge_bandwidth(H200, gb_s)[0] == status


def test_a_board_knows_its_own_name():
    assert named_by_board("10de:2335") == "NVIDIA H200"
    assert named_by_board("10DE:2329") == "H20", "sold as what it is not"
    assert named_by_board("10DE:FFFF") is None
    assert reference.find("NVIDIA GeForce RTX 9090") is None
