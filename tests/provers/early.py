"""Says that its chains are done before it was asked for them, and works while it should commit."""

from celium_ops.gpu.prover.worker import Worker
from tests.provers.common import run


class Early(Worker):
    def run_chain(self, nonce, size, layers):
        self.asked = (nonce, size, layers)
        return {}

    def audit(self, nonce):
        super().run_chain(*self.asked)
        return super().audit(nonce)


if __name__ == "__main__":
    run(Early)
