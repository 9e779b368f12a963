"""What the provers that lie are made with: two simulated cards, and an honest prover to be dishonest with."""

from __future__ import annotations

import time

import numpy as np

from celium_ops.gpu.arithmetic import LIMBS, narrow, values
from celium_ops.gpu.prover.prover import Prover
from celium_ops.gpu.prover.worker import Worker

SIZE, LAYERS = 512, 24
PACE = 0.06


class NumpyDevice:
    """What ``prover.device.Device`` is, without torch: written independently, so that the two check each other."""

    cuda = False

    def __init__(self, pace=PACE):
        self.pace, self.spans = pace, []

    def room(self):
        return {SIZE: LAYERS}

    def keys(self, words):
        return np.frombuffer(words, dtype="<i4").astype(np.int32)

    def storage(self, layers, size):
        return np.empty((layers, size, size), dtype=np.int8)

    def fill(self, into, rows, columns):
        into[:] = values(rows[:, None], columns[None, :])

    def operand(self, rows, columns):
        return values(rows[:, None], columns[None, :]).astype(np.float32)

    def ones(self, size):
        return np.ones((size, 1), dtype=np.float32)

    def loaded(self, layer):
        return layer.astype(np.float32)

    def product(self, left, right):
        return left @ right

    def timed_product(self, left, right):
        begin = time.perf_counter()
        sums = self.product(left, right)
        time.sleep(max(0.0, self.pace - (time.perf_counter() - begin)))
        self.spans.append(time.perf_counter() - begin)
        return sums

    def seconds(self):
        spans, self.spans = self.spans, []
        return spans

    def narrow(self, sums, shift, into):
        into[:] = narrow(sums.astype(np.int32), shift)

    def totals(self, matrix, ones):
        return matrix.sum(axis=1)

    def release(self):
        pass

    def tree_matrix(self, rows, columns):
        return self.operand(rows, columns)

    def tree_sums(self, level, matrix):
        return (level.astype(np.float32) @ matrix).astype(np.int32)

    def layers_at_once(self, size):
        return 5

    def low_bits(self, sums):
        return np.concatenate([narrow(sums, shift) for shift in LIMBS], axis=1).astype(np.int8)

    def checksum(self, matrix):
        return matrix.sum(axis=1, dtype=np.float64)

    def wrong_rows(self, sums, left, checksum, turn):
        return (sums.sum(axis=1, dtype=np.float64) != left.astype(np.float64) @ checksum).sum()

    def differ(self, left, right):
        return int((left != right).sum())

    def content(self, matrix):
        return np.ascontiguousarray(matrix).tobytes()


def default_device():
    """Return a simulated card."""
    try:
        from celium_ops.gpu.prover.device import Device
    except ImportError:
        return NumpyDevice()
    return Device("cpu", PACE)


class TwoCards:
    """As little of ``pynvml`` as it takes to have two cards."""

    class NVMLError(Exception):
        value = 3

    NVML_ERROR_NOT_SUPPORTED, NVML_ERROR_FUNCTION_NOT_FOUND, NVML_ERROR_NO_PERMISSION = 3, 13, 4

    def nvmlDeviceGetCount(self):  # noqa: N802
        return 2

    def nvmlDeviceGetHandleByIndex(self, index):  # noqa: N802
        return index

    def nvmlDeviceGetUUID(self, handle):  # noqa: N802
        return f"GPU-{handle}"

    def nvmlDeviceGetName(self, handle):  # noqa: N802
        return "Simulated"


def run(worker=Worker, device=default_device, cards=TwoCards):
    """Answer one examination."""
    Prover(
        "simulated" if cards else "cpu",
        cards() if cards else None,
        lambda uuid, beat: worker(uuid, device(), beat),
        {"python": "3"},
    ).run()
