"""Run a command and record the resources of all processes that it started.

    python benchmarks/cpu_time.py FILE.json COMMAND...

The file holds CPU seconds, wall seconds and the largest resident memory of a process in bytes.
Linux only: this process adopts processes that outlive the command, and waits for them.
"""

from __future__ import annotations

import argparse
import ctypes
import json
import os
import resource
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

_PR_SET_CHILD_SUBREAPER = 36  # of prctl(2)


def main() -> int:
    """Run the command and return its exit code."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("out", type=Path, help="JSON file to write")
    parser.add_argument("command", nargs=argparse.REMAINDER, help="command with its arguments")
    given = parser.parse_args()
    ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    started = time.monotonic()
    code = subprocess.run(given.command, check=False).returncode
    wall = time.monotonic() - started
    with suppress(ChildProcessError):  # raised once no child is left
        while True:
            os.wait()
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    found = {
        "cpu_seconds": used.ru_utime + used.ru_stime,
        "wall_seconds": wall,
        "peak_bytes": used.ru_maxrss * 1024,
    }
    given.out.write_text(json.dumps(found) + "\n")
    return code


if __name__ == "__main__":
    sys.exit(main())
