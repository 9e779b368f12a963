"""Plays an honest session again, word for word: the commitment and the openings of another challenge."""

import os

from celium_ops.gpu.prover.worker import Worker
from tests.provers.common import run


class Replayed(Worker):
    def run_chain(self, nonce, size, layers):
        super().run_chain(os.urandom(32), size, layers)
        self.recorded = super().audit(os.urandom(32))
        places = [(layer, 3 * layer % size) for layer in range(layers)]
        self.openings = self.chain.open([place for layer, row in places for place in ((layer, row), (layer + 1, row))])
        return {}

    def audit(self, nonce):
        return self.recorded

    def open(self, places):
        return {"openings": (self.openings * len(places))[: len(places)]}


if __name__ == "__main__":
    run(Replayed)
