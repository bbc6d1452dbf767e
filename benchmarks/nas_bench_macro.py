"""NAS-Bench-Macro's table as a truth for `mbsearch audit` and `mbsearch run --table`.

    python benchmarks/nas_bench_macro.py nas_bench_macro_cifar10.json truth.json
    mbsearch audit --space benchmarks/nas_bench_macro.yaml --data cifar10 --truth truth.json

The input is the published file (xiusu/NAS-Bench-Macro, Apache-2.0); what is written maps each
network's fingerprint to its mean test accuracy over three trainings. Networks that differ only in
where they do nothing are one network, and get the mean of them all.
"""

from __future__ import annotations

import json
import sys
from collections import defaultdict
from pathlib import Path
from statistics import fmean

from mbsearch.config.specification import load_specification
from mbsearch.space.architecture import Architecture

SPACE = Path(__file__).with_suffix(".yaml")


def truth(table: Path) -> tuple[dict[str, float], dict[str, Architecture]]:
    """Every network's mean accuracy, and the network, by fingerprint."""
    space = load_specification(str(SPACE))
    accuracies: dict[str, list[float]] = defaultdict(list)
    networks = {}
    for encoding, row in json.loads(table.read_text()).items():
        network = space.decode({f"stages.{i}": int(code) for i, code in enumerate(encoding)})
        accuracies[network.fingerprint] += [a / 100 for a in row["test_acc"]]
        networks[network.fingerprint] = network
    return {key: fmean(values) for key, values in accuracies.items()}, networks


def main(table: Path, out: Path) -> None:
    means, _ = truth(table)
    out.write_text(json.dumps(means))
    print(f"{len(means):,} networks")


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
