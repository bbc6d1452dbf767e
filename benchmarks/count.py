"""How long it takes to decode and cost random networks, on one core and without torch.

python benchmarks/count.py [SPACE] [NETWORKS]
"""

from __future__ import annotations

import sys
import time
from random import Random

from mbsearch.config.specification import load_specification
from mbsearch.cost import measure


def main() -> None:
    space = load_specification(sys.argv[1] if len(sys.argv) > 1 else "v2.yaml")
    networks = int(sys.argv[2]) if len(sys.argv) > 2 else 10_000
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
