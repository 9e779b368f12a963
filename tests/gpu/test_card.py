"""The prover on a real card: `make gpu-test`, on any machine with an NVIDIA card, torch, pynvml and pytest.

It prints what it measures; docs/gpu-proof.md keeps such figures with their card, driver, date and command.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

torch = pytest.importorskip("torch")
pynvml = pytest.importorskip("pynvml")
if not torch.cuda.is_available():
    pytest.skip("there is no NVIDIA card", allow_module_level=True)

from celium_ops.gpu.arithmetic import Shape, keys, narrow  # noqa: E402  # what is above decides whether this can run
from celium_ops.gpu.prover import measure  # noqa: E402
from celium_ops.gpu.prover.chain import Chain  # noqa: E402
from celium_ops.gpu.prover.device import Device  # noqa: E402

GOLDEN = json.loads((Path(__file__).parents[2] / "celium_ops/gpu/golden.json").read_text())


@pytest.fixture(scope="module")
def device():
    return Device("cuda")


@pytest.mark.parametrize("case", GOLDEN, ids=lambda case: f"{case['size']}x{case['layers']}")
def test_a_card_comes_to_the_digests_of_a_processor(device, case):
    chain = Chain(device, Shape(case["size"], case["layers"]), bytes.fromhex(case["nonce"]), case["uuid"])
    chain.run(lambda _layer: None)
    digests = chain.commit(bytes.fromhex(case["second"]))
    assert (digests[-32:].hex(), chain.wrong_rows, chain.changed_rows()) == (case["last"], 0, 0)


@pytest.mark.parametrize("size", [8192, 16384])
def test_sums_of_the_largest_matrices_are_exact(device, size):
    down, across, other = (device.keys(keys(b"seed", label, size)) for label in "abc")
    left, right = device.operand(down, across), device.operand(across, other)
    sums = device.product(left, right)
    rows = torch.randperm(size)[:16]
    exact = left[rows].cpu().double() @ right.cpu().double()
    assert torch.equal(sums[rows].cpu().double(), exact)
    layer = device.storage(1, size)[0]
    device.narrow(sums, Shape(size, 1).shift, layer)
    assert torch.equal(layer[rows].cpu().int(), narrow(exact.int(), Shape(size, 1).shift))
    checksum = device.checksum(right)
    assert int(sum(device.wrong_rows(sums, left, checksum, turn) for turn in range(16))) == 0
    sums[5, 7] += 1
    assert int(sum(device.wrong_rows(sums, left, checksum, turn) for turn in range(16))) >= 1


@pytest.mark.parametrize("size", [8192, 16384])
def test_the_chain_fills_the_memory_and_its_speed_is_said(device, size):
    device.release()
    room = device.room()
    chain = Chain(device, Shape(size, room[size]), os.urandom(32), "GPU-test")
    chain.run(lambda _layer: None)
    total = torch.cuda.get_device_properties(0).total_memory
    product = 2 * size**3 / sorted(chain.spans)[len(chain.spans) // 2] / 1e12
    whole = chain.shape.operations / chain.seconds / 1e12
    name, filled = torch.cuda.get_device_name(0), chain.shape.stored / total
    print(f"\n{name}: {room[size]} products of {size} in {chain.seconds:.2f} s, {whole:.0f} TFLOPS")
    print(f"products alone {product:.0f} TFLOPS; {filled:.1%} of memory")
    begun = torch.cuda.Event(enable_timing=True)
    ended = torch.cuda.Event(enable_timing=True)
    begun.record()
    chain.commit(os.urandom(32))
    ended.record()
    torch.cuda.synchronize()
    print(f"committed to {chain.shape.stored / 1e9:.1f} GB in {begun.elapsed_time(ended) / 1000:.3f} s")
    assert chain.wrong_rows == 0
    assert chain.changed_rows() == 0
    assert whole > 0.35 * product, "what the assessment calls a forged timing"


def test_the_other_speeds_can_be_measured():
    torch.cuda.empty_cache()
    found = {**measure.memory(), **measure.precisions(), **measure.bus()}
    print("\n" + json.dumps(found))
    assert all(value > 0 for value in found.values())


def test_the_health_check_of_an_executor_finds_the_cards():
    program = Path(__file__).parents[2] / "templates" / "executor.gpus.health.py"
    begun = time.monotonic()
    done = subprocess.run([sys.executable, str(program)], capture_output=True, text=True, timeout=30, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    print(f"NVML counted the cards in {time.monotonic() - begun:.1f} s")
