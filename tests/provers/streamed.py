"""Has no memory to keep layers in: it makes them again when it is asked to commit to them."""

from celium_ops.gpu.prover.worker import Worker
from tests.provers.common import run


class Streamed(Worker):
    def run_chain(self, nonce, size, layers):
        super().run_chain(nonce, size, layers)
        self.again = (nonce, size, layers)
        self.chain.layers = None
        return {}

    def audit(self, nonce):
        super().run_chain(*self.again)
        return super().audit(nonce)


if __name__ == "__main__":
    run(Streamed)
