"""Run a command and write down what it took, with all processes that it started.

    python benchmarks/cpu_time.py FILE.json COMMAND...

The file holds CPU seconds, wall seconds and the largest resident memory of a process in bytes. On
Linux only: this process adopts those that outlive the command, and waits for them.
"""

from __future__ import annotations

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
    ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    started = time.monotonic()
    code = subprocess.run(sys.argv[2:], check=False).returncode
    wall = time.monotonic() - started
    with suppress(ChildProcessError):  # once there is none left
        while True:
            os.wait()
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    found = {
        "cpu_seconds": used.ru_utime + used.ru_stime,
        "wall_seconds": wall,
        "peak_bytes": used.ru_maxrss * 1024,
    }
    Path(sys.argv[1]).write_text(json.dumps(found) + "\n")
    return code


if __name__ == "__main__":
    sys.exit(main())
