"""Convert NAS-Bench-Macro's table for `mbsearch audit --truth` and `mbsearch run --table`.

    python benchmarks/nas_bench_macro.py nas_bench_macro_cifar10.json truth.json
    mbsearch audit --space benchmarks/nas_bench_macro.yaml --data cifar10 --truth truth.json

The input is the published file (xiusu/NAS-Bench-Macro, Apache-2.0). The output maps each network's
fingerprint to its mean test accuracy over three trainings. Networks that differ only in the
positions of identity layers are one network, with the mean of all of them.
"""

from __future__ import annotations

import argparse
import json
from collections import defaultdict
from pathlib import Path
from statistics import fmean

from mbsearch.config.specification import load_specification
from mbsearch.space.architecture import Architecture

SPACE = Path(__file__).with_suffix(".yaml")


def truth(table: Path) -> tuple[dict[str, float], dict[str, Architecture]]:
    """Return mean accuracies and networks by fingerprint."""
    space = load_specification(str(SPACE))
    accuracies: dict[str, list[float]] = defaultdict(list)
    networks = {}
    for encoding, row in json.loads(table.read_text()).items():
        network = space.decode({f"stages.{i}": int(code) for i, code in enumerate(encoding)})
        accuracies[network.fingerprint] += [a / 100 for a in row["test_acc"]]
        networks[network.fingerprint] = network
    return {key: fmean(values) for key, values in accuracies.items()}, networks


def main() -> None:
    """Write the mean accuracy of every network."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("table", type=Path, help="nas-bench-macro_cifar10.json")
    parser.add_argument("out", type=Path, help="JSON file to write")
    given = parser.parse_args()
    means, _ = truth(given.table)
    given.out.write_text(json.dumps(means))
    print(f"{len(means):,} networks")


if __name__ == "__main__":
    main()
