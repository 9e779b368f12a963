"""Whole examinations: an honest prover passes, and each way to lie is caught for its own reason.

Every prover is a program of its own (tests/provers) that speaks the protocol through pipes; the verifier is the one
that operators run, and knows nothing of who answers.
"""

from __future__ import annotations

import contextlib
import json
import os
import queue
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from celium_ops.gpu.assessment import assess
from celium_ops.gpu.examination import Examination

ROOT = Path(__file__).parents[2]


class Pipes:
    """A line to a program here."""

    def __init__(self, program):
        # A pool of threads does not survive a fork well.
        environment = {**os.environ, "OPENBLAS_NUM_THREADS": "1"}
        command = [sys.executable, "-m", f"tests.provers.{program}"]
        self.process = subprocess.Popen(
            command, cwd=ROOT, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        self.said = queue.Queue()
        threading.Thread(target=self._listen, daemon=True).start()

    def _listen(self):
        for line in self.process.stdout:
            self.said.put((json.loads(line), time.monotonic()))
        self.said.put(None)

    def send(self, message):
        self.process.stdin.write(json.dumps(message) + "\n")
        self.process.stdin.flush()

    def receive(self, seconds):
        try:
            said = self.said.get(timeout=seconds)
        except queue.Empty:
            raise TimeoutError from None
        if said is None:
            raise ConnectionError("the program ended")
        return said

    def close(self):
        with contextlib.suppress(BrokenPipeError):
            self.process.stdin.close()
        assert self.process.wait(20) == 0, "when nobody listens any more, everything ends"


def examined(program, deep=False, **options):
    line = Pipes(program)
    try:
        return assess(Examination(line, lambda _phase: None, deep).run(), **options)
    finally:
        line.close()


@pytest.fixture(scope="module")
def honest():
    return examined("honest", simulated=True)


def test_the_honest_prover_passes_and_nothing_simulated_is_ever_accepted(honest):
    assert [check.message for check in honest.checks if check.status not in ("pass", "skipped")] == []
    assert (honest.mode, honest.verdict, honest.assurance) == ("simulated", "unknown", "none")
    ids = {check.id for check in honest.cards["GPU-0"]} | {check.id for check in honest.cards["GPU-1"]}
    assert ids == {"proof.exact", "proof.work", "proof.memory", "proof.together", "gpu.compute", "gpu.retention"}


def test_simulated_cards_are_exposed_where_real_ones_are_expected():
    found = examined("honest")
    assert found.verdict == "reject"
    assert "no-cuda" in {check.code for check in found.reasons}


LIARS = {
    "precomputed": {"inexact", "wrong-product"},
    "replayed": {"inexact", "other-layer"},
    "hankel": {"inexact", "wrong-product"},
    "one_card": {"not-together"},
    "streamed": {"memory-not-held"},
    "forged_timings": {"forged-timing"},
    "flipped_bit": {"inexact"},
    "float_noise": {"inexact"},
    "lazy": {"wrong-product"},
    "few_rows": {"wrong-product"},
    "faulty": {"compute-errors"},
    "early": {"memory-not-held"},
}
"""What each of them is caught for, at least. Of all, lazy has the best chance to get away: 1 in 10 000."""


@pytest.mark.parametrize("program", LIARS)
def test_a_lie_is_caught_for_its_own_reason(program):
    found = examined(program, simulated=True)
    assert found.verdict == "reject"
    assert {check.code for check in found.reasons} >= LIARS[program]


def test_a_card_that_errs_after_a_while_is_found_by_a_deep_examination(monkeypatch):
    monkeypatch.setattr("celium_ops.gpu.examination.DEEP", 3)
    assert examined("tired", simulated=True).verdict == "unknown"
    found = examined("tired", deep=True, simulated=True)
    assert {check.code for check in found.reasons} == {"compute-errors"}


def test_a_card_that_hangs_is_given_up_and_the_others_go_on(monkeypatch):
    monkeypatch.setattr("celium_ops.gpu.examination.CHAIN_WITHIN", 5.0)
    found = examined("silent", simulated=True)
    assert {(check.code, check.card) for check in found.reasons} == {("timeout", "GPU-1")}
    assert "proof.memory" in {check.id for check in found.cards["GPU-0"]}


def test_a_processor_that_says_it_is_two_cards_does_not_pass_for_them(monkeypatch):
    monkeypatch.setattr("celium_ops.gpu.examination.SIZES", (512,))  # or a processor takes minutes
    found = examined("pretender")
    assert found.verdict == "reject"
    codes = {check.code for check in found.reasons}
    assert codes >= {"vram-unavailable", "forged-timing"}, "its words agree with each other, and not with our clock"
