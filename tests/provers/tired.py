"""Not a liar: an honest prover on a card that gets one sum wrong when it has worked for a while."""

from tests.provers.common import LAYERS, NumpyDevice, run


class Tired(NumpyDevice):
    products = 0

    def timed_product(self, left, right):
        sums = super().timed_product(left, right)
        self.products += len(left) > 256
        if self.products == 3 * LAYERS:
            sums[17, 23] += 1
        return sums


if __name__ == "__main__":
    run(device=Tired)
