"""Time the decoding and costing of random networks, on one core and without torch.

python benchmarks/count.py [SPACE] [--networks 10000]
"""

from __future__ import annotations

import argparse
import sys
import time
from random import Random

from mbsearch.config.specification import load_specification
from mbsearch.cost import measure


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("space", nargs="?", default="v2.yaml", help="search space")
    parser.add_argument("--networks", type=int, default=10_000, help="number of random networks")
    given = parser.parse_args()
    space, networks = load_specification(given.space), given.networks
    rng = Random(0)
    encodings = [space.sample_params(rng) for _ in range(networks)]
    started = time.process_time()
    for params in encodings:
        measure(space.decode(params))
    seconds = time.process_time() - started
    print(f"{networks:,} networks of {space.name} decoded and costed in {seconds:.2f} CPU s")
    assert "torch" not in sys.modules, "costing a network must not need torch"


if __name__ == "__main__":
    main()
