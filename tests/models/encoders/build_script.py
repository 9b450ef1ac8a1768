"""Builds a cache slowly, to be killed: run by `test_cache.py` in its own process."""

import sys
import time

import numpy as np

from ddjax.models.encoders.cache import cached_features
from tests.models.encoders.tiny import images, linear_encoder


def main() -> None:
    """Says after every block that it has been asked for."""

    def blocks():
        for start in range(0, 40, 4):
            print(start, flush=True)
            time.sleep(0.2)
            yield images(40)[start : start + 4]

    cached_features(
        linear_encoder(),
        blocks(),
        directory=sys.argv[1],
        fingerprint="tiny",
        count=40,
        block=4,
        shard_rows=8,
        verbose=False,
    )
    print(np.int32(-1), flush=True)


if __name__ == "__main__":
    main()
