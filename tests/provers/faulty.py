"""Not a liar: an honest prover on a card that gets one sum of a large product wrong."""

from tests.provers.common import NumpyDevice, run


class Faulty(NumpyDevice):
    well = True

    def timed_product(self, left, right):
        sums = super().timed_product(left, right)
        if len(left) > 256 and self.well:
            self.well = False
            sums[17, 23] += 1
        return sums


if __name__ == "__main__":
    run(device=Faulty)
