"""Computes half of the rows of large products; the others are zero."""

from tests.provers.common import NumpyDevice, run


class Half(NumpyDevice):
    def timed_product(self, left, right):
        sums = super().timed_product(left, right)
        if len(left) > 256:
            sums[::2] = 0
        return sums

    def wrong_rows(self, sums, left, checksum, turn):
        return 0


if __name__ == "__main__":
    run(device=Half)
