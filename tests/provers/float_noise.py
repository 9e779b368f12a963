"""Multiplies in less precision than it should: sums are a little off."""

import numpy as np

from tests.provers.common import NumpyDevice, run


class Noisy(NumpyDevice):
    def product(self, left, right):
        return (left @ right).astype(np.float16).astype(np.float32)

    def wrong_rows(self, sums, left, checksum, turn):
        return 0


if __name__ == "__main__":
    run(device=Noisy)
