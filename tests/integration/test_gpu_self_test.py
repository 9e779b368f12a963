"""The self-test of a host's cards, with provers that compute on this processor: well, and not."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from celium_ops.gpu.prover.self_test import SelfTest, views_differ

ROOT = Path(__file__).parents[2]
CARD = {"uuid": "GPU-1"}
HELLO = {"nvml": {"cards": [CARD]}, "kernel": [CARD], "tampering": []}


def outcome(program):
    environment = {**os.environ, "OPENBLAS_NUM_THREADS": "1"}
    command = [sys.executable, "-m", f"tests.provers.{program}"]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, cwd=ROOT, env=environment, stdin=pipe, stdout=pipe, text=True) as prover:
        return SelfTest(prover).run()


def test_good_cards_pass_and_nothing_simulated_is_checked():
    report = outcome("honest")
    assert (report["ok"], report["reasons"], report["mode"], report["assurance"]) == (True, [], "simulated", "none")
    assert [card["memory_gib"] for card in report["cards"]] == [512**2 * 25 / 2**30] * 2


@pytest.mark.parametrize(
    ("program", "code"), [("flipped_bit", "inexact"), ("float_noise", "inexact"), ("faulty", "compute-errors")]
)
def test_a_card_that_errs_is_named(program, code):
    report = outcome(program)
    assert report["ok"] is False
    assert {reason["code"] for reason in report["reasons"]} == {code}
    assert {reason["card"] for reason in report["reasons"]} == {card["uuid"] for card in report["cards"]}


@pytest.mark.parametrize(
    ("hello", "torch", "codes"),
    [
        ({}, [CARD], []),
        ({"kernel": None}, None, []),
        ({}, [], ["other-cards"]),
        ({"kernel": [CARD, CARD]}, [CARD], ["other-cards"]),
        ({"tampering": ["LD_PRELOAD=x"]}, [CARD], ["tampering"]),
        ({"nvml": {"cards": []}, "kernel": []}, [], ["no-cards"]),
        ({"nvml": None}, None, ["no-nvml"]),
    ],
)
def test_views_have_to_agree(hello, torch, codes):
    assert [reason["code"] for reason in views_differ({**HELLO, **hello}, torch)] == codes
