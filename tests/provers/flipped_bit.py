"""Has a card that flips one bit of each product, and hides what the prover's own checksums say of it."""

from tests.provers.common import NumpyDevice, run


class Flipping(NumpyDevice):
    def timed_product(self, left, right):
        sums = super().timed_product(left, right)
        sums[17, 23] += 1 << 9
        return sums

    def wrong_rows(self, sums, left, checksum, turn):
        return 0


if __name__ == "__main__":
    run(device=Flipping)
