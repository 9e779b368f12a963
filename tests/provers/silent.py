"""Has a card that hangs in its first large chain."""

import time

from celium_ops.gpu.prover.worker import Worker
from tests.provers.common import run


class Wedged(Worker):
    def run_chain(self, nonce, size, layers):
        if self.uuid == "GPU-1" and size > 256:
            time.sleep(3600)
        return super().run_chain(nonce, size, layers)


if __name__ == "__main__":
    run(Wedged)
