"""Has computed everything before it was asked: with a challenge of its own."""

from celium_ops.gpu.prover.worker import Worker
from tests.provers.common import run


class Precomputed(Worker):
    def new_chain(self, shape, nonce):
        return super().new_chain(shape, bytes(32))


if __name__ == "__main__":
    run(Precomputed)
