"""Has one card with two names: they wait for each other."""

import multiprocessing

from celium_ops.gpu.prover.worker import Worker
from tests.provers.common import run

CARD = multiprocessing.Lock()


class Shared(Worker):
    def __init__(self, uuid, device, beat):
        super().__init__(uuid, device, beat)
        product = device.timed_product

        def in_turn(left, right):
            with CARD:
                return product(left, right)

        device.timed_product = in_turn


if __name__ == "__main__":
    run(Shared)
