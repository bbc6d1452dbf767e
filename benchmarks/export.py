"""Check every export format on candidates of every shipped space and on all references.

    python benchmarks/export.py [--candidates 50] [--resolution 32] [--only v2]

Batch normalisations get random statistics first. Each file is read back and compared at batch sizes
1 and 3, on one thread. The output is a line per space: networks, networks without a timm string,
largest relative error of each format, CPU seconds per network.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections import defaultdict
from pathlib import Path

import torch

sys.path.insert(0, str(Path(__file__).parent.parent / "tests"))
from exportable_network import exportable  # the tests' network

from mbsearch.config.specification import load_specification
from mbsearch.export.formats import DEFAULT_FORMATS, export
from mbsearch.space.architecture import Architecture
from mbsearch.space.library import load_reference, reference_names, space_names


def check(name: str, networks: list[Architecture]) -> None:
    """Export every network and print a line about all of them."""
    started = time.process_time()
    worst: dict[str, float] = defaultdict(float)
    without_string = 0
    for seed, architecture in enumerate(networks):
        with tempfile.TemporaryDirectory() as folder:
            for each in export(exportable(architecture, seed), Path(folder) / "out"):
                if each.error is None:
                    without_string += 1
                else:
                    worst[each.format] = max(worst[each.format], each.error)
    seconds = (time.process_time() - started) / len(networks)
    errors = ", ".join(f"{key} {error:.1e}" for key, error in worst.items())
    print(f"{name}: {len(networks)} networks, {without_string} without timm string; {errors}; "
          f"{seconds:.1f} CPU s each", flush=True)  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--candidates", type=int, default=50, help="networks of each space")
    parser.add_argument("--resolution", type=int, default=32, help="resolution of each network")
    parser.add_argument("--only", help="one space, or references")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    print(f"formats: {', '.join(DEFAULT_FORMATS)}; torch {torch.__version__}")
    groups = {"references": [load_reference(name) for name in reference_names()]}
    for name in space_names():
        space = load_specification(name)
        groups[name] = [space.sample(seed) for seed in range(arguments.candidates)]
    for name, networks in groups.items():
        if arguments.only in (None, name):
            check(name, [n.replace(resolution=arguments.resolution) for n in networks])


if __name__ == "__main__":
    main()
