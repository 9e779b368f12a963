"""The arithmetic of the proof, and what the verifier makes of openings; whole examinations are in integration."""

from __future__ import annotations

import json
import time
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from celium_ops.gpu import verifier
from celium_ops.gpu.arithmetic import HIGH, LOW, Shape, keys, narrow, values
from celium_ops.gpu.examination import Examination, ExaminationError, shape_for
from celium_ops.gpu.prover.chain import Chain
from tests.provers.common import NumpyDevice

ROOT = Path(__file__).parents[2]


def test_chances():
    """A wrong number is right by chance once in 64 times, which 32 columns exclude: whole products are what counts."""
    assert verifier.unseen(0.5) < 1.1e-4
    assert verifier.unseen(0.2) < 0.035
    assert verifier.unseen(1.0) < 3e-10


def committed(shape, nonce, uuid, second):
    chain = Chain(NumpyDevice(pace=0), shape, nonce, uuid)
    chain.run(lambda _layer: None)
    return chain, chain.commit(second)


GOLDEN = json.loads((ROOT / "celium_ops/gpu/golden.json").read_text())


@pytest.mark.parametrize("case", GOLDEN, ids=lambda case: f"{case['size']}x{case['layers']}")
def test_prover_and_verifier_come_to_the_golden_digests(case):
    shape, nonce, second = Shape(case["size"], case["layers"]), bytes.fromhex(case["nonce"]), b"\2" * 32
    _, digests = committed(shape, nonce, case["uuid"], second)
    assert digests[-32:].hex() == case["last"]
    assert digests == verifier.digests(shape, nonce, case["uuid"], verifier.Tree(shape.size, second))


SHAPE = Shape(128, 6)
NONCE, SECOND = b"\3" * 32, b"\4" * 32
CHAIN, DIGESTS = committed(SHAPE, NONCE, "GPU-1", SECOND)
TREE = verifier.Tree(SHAPE.size, SECOND)
SAMPLES = verifier.draw(SHAPE)
OPENINGS = [list(opening) for opening in CHAIN.open(SAMPLES.places)]


def check(openings=OPENINGS, digests=DIGESTS, nonce=NONCE, uuid="GPU-1", tree=TREE):
    fault = verifier.check(SHAPE, nonce, uuid, tree, digests, SAMPLES, openings)
    return fault and fault.code


def test_an_honest_opening_holds_and_belongs_to_its_challenge_its_card_and_its_tree():
    assert check() is None
    assert check(nonce=b"\5" * 32) == "wrong-product"
    assert check(uuid="GPU-2") == "wrong-product"
    assert check(tree=verifier.Tree(SHAPE.size, b"\6" * 32)) == "other-row"
    assert check(digests=DIGESTS[32:] + DIGESTS[:32]) == "other-layer"
    assert check(digests=DIGESTS[:-1]) == "malformed"
    assert check(openings=OPENINGS[:-1]) == "malformed"


@given(st.data())
def test_no_byte_of_an_opening_may_be_another(data):
    opening = data.draw(st.integers(0, len(OPENINGS) - 1))
    part = data.draw(st.integers(0, len(OPENINGS[opening]) - 1))
    place = data.draw(st.integers(0, len(OPENINGS[opening][part]) - 1))
    flipped = bytearray(OPENINGS[opening][part])
    flipped[place] ^= data.draw(st.integers(1, 255))
    changed = [list(one) for one in OPENINGS]
    changed[opening][part] = bytes(flipped)
    assert check(openings=changed) in {"other-row", "other-layer", "malformed"}


@given(st.integers(-(2**24), 2**24), st.sampled_from([64, 128, 256, 512, 1024, 2048, 4096, 8192, 16384]))
def test_six_bits_are_six_bits(number, size):
    shift = Shape(size, 1).shift
    assert narrow(np.array([number], dtype=np.int32), shift)[0] == ((number >> shift) + 32) % 64 - 32


def test_values_are_spread_evenly_and_have_no_structure():
    down, across = (np.frombuffer(keys(b"seed", label, 512), dtype="<i4") for label in ("a", "b"))
    made = values(down[:, None], across[None, :])
    counts = np.bincount((made - LOW).ravel(), minlength=HIGH - LOW + 1)
    assert abs(counts / counts.mean() - 1).max() < 0.08
    assert np.linalg.matrix_rank(made.astype(np.float64)) == 512


def test_no_shape_lets_a_sum_leave_what_fp32_holds():
    assert Shape(16384, 1).size * LOW * LOW <= 2**24
    for size, layers in ((32768, 1), (100, 1), (32, 1), (512, 0)):
        with pytest.raises(ValueError, match="no chain"):
            Shape(size, layers)


def test_large_matrices_fill_fast_cards_and_small_ones_slow_cards():
    room = {8192: 2000, 16384: 500}
    assert shape_for("NVIDIA H200", room) == Shape(16384, 500)
    assert shape_for("NVIDIA L4", {8192: 320, 16384: 78}) == Shape(8192, 320)
    assert shape_for("never heard of", room) == Shape(8192, 2000)


class Saying:
    """A line to something that is no prover."""

    def __init__(self, *messages):
        self.messages = list(messages)

    def send(self, message):
        pass

    def receive(self, seconds):
        if not self.messages:
            raise ConnectionError("the connection was closed")
        return self.messages.pop(0), time.monotonic()


HELLO = {
    "type": "hello",
    "protocol": "celium-ops/gpu-proof/1",
    "mode": "cuda",
    "nvml": None,
    "kernel": None,
    "bus": [],
    "tampering": [],
    "cards": ["GPU-0"],
}

LOOK = {"type": "look", "id": "start", "card": "survey", "torch": None}


@pytest.mark.parametrize(
    ("messages", "code"),
    [
        ([], "lost"),
        ([{"type": "hello", "protocol": "another/1"}], "no-prover"),
        ([{}], "no-prover"),
        ([{**HELLO, "cards": 7}], "malformed"),
        ([{**HELLO, "nvml": {"cards": ["x"]}}], "malformed"),
        ([HELLO, LOOK, {"type": "room", "id": "start", "card": "GPU-0", "room": {"100": 3}}], "malformed"),
        ([HELLO, LOOK, {"type": "room", "id": "start", "card": "GPU-0", "room": ["512"]}], "malformed"),
        ([HELLO, {"card": "GPU-0"}], "malformed"),
        ([HELLO, *[{"id": str(number)} for number in range(1001)]], "malformed"),
        ([{**HELLO, "nvml": {"driver": "x" * 500}}], "malformed"),
        ([HELLO], "lost"),
    ],
)
def test_who_does_not_keep_to_the_protocol_is_told_so(messages, code):
    with pytest.raises(ExaminationError) as caught:
        Examination(Saying(*messages), lambda _phase: None).run()
    assert caught.value.code == code


ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=6,
)
KINDS = st.sampled_from(["hello", "look", "room", "run_chain", "failed", "alive", "ping", "audit", "x"])


@given(
    st.dictionaries(st.sampled_from(sorted(HELLO)), ANYTHING, max_size=2),
    st.lists(
        st.fixed_dictionaries({"type": KINDS}, optional={"id": st.just("start"), "card": ANYTHING, "room": ANYTHING})
    ),
)
def test_whatever_is_said_is_an_error_of_the_examination(changes, messages):
    with pytest.raises(ExaminationError):
        Examination(Saying({**HELLO, **changes}, LOOK, *messages), lambda _phase: None).run()
