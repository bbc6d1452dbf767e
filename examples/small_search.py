"""Search a small space on the built-in images, and read the study as a table.

    python examples/small_search.py [FOLDER]

FOLDER is where the study is kept; `results/example` by default. The same command resumes.
"""

from __future__ import annotations

import sys
from pathlib import Path

import mbsearch as mb

SPACE = Path(__file__).with_name("small_space.yaml")


def main(folder: str) -> None:
    """Train four networks and a MobileNetV1; print them by accuracy."""
    frame = mb.run(mb.load(str(SPACE)), trials=4, folder=folder)
    columns = ["trial", "origin", "mult_adds", "accuracy"]
    print(frame[columns].sort_values("accuracy", ascending=False).to_string(index=False))


if __name__ == "__main__":  # workers import this file
    main(sys.argv[1] if len(sys.argv) > 1 else "results/example")
