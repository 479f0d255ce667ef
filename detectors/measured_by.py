"""Which of a person's devices a day's values came from: a bit a device for each baseline.

Source: bookkeeping of its own. Deviation: a person's devices from the ``MOST``-th on share the last bit, so that from
there on it is known that another device measured, and not which.
"""

from __future__ import annotations

from typing import Final

import numpy as np

from detectors.protocol import Bools, Bytes, Counts, Rows

MOST: Final = 16
_BITS: Final = np.array([0, *(1 << min(n, MOST) - 1 for n in range(1, 256))], np.uint16)


def add(masks: Counts, pairs: Rows, device: Bytes, chosen: Bools) -> None:
    """Note the devices of the minutes that are ``chosen``, in place; both (P', W, R) of the baselines ``pairs`` (P',).

    ``masks`` (R, P). A device that is not known, 0, has no bit. Hardly ever is any of them new.
    """
    mine = np.bitwise_or.reduce(_BITS.take(device) * chosen, axis=1).T
    known = masks[:, pairs]
    if (mine & ~known).any():
        masks[:, pairs] = known | mine


def numbers(mask: int) -> list[int]:
    """Return the numbers of the devices in a mask, ascending; ``MOST`` stands for all from there on.

    >>> numbers(0b101)
    [1, 3]
    """
    return [n + 1 for n in range(MOST) if mask >> n & 1]
