"""Says that it was four times as fast."""

from celium_ops.gpu.prover.worker import Worker
from tests.provers.common import run


class Forged(Worker):
    def report(self):
        report = super().report()
        return {**report, "seconds": report["seconds"] / 4, "tflops": report["tflops"] * 4}


if __name__ == "__main__":
    run(Forged)
