"""Pictures of a network's worst errors, read in a process of its own.

Reading images needs torch, which the dashboard does not import.
"""

from __future__ import annotations

import subprocess
import sys
import threading
from dataclasses import dataclass, field

from mbsearch.analysis.worst_errors import ErrorPictures, PictureRequest

_COMMAND = [sys.executable, "-m", "mbsearch.data.error_pictures"]
_MOST = 32  # networks, of about 50 KB each
_TIMEOUT = 120  # seconds; a folder of many images is listed first


@dataclass
class PictureReader:
    """Reads pictures, one request at a time, and keeps those of the last networks."""

    _known: dict[tuple[str, str, tuple[int, ...]], ErrorPictures] = field(default_factory=dict)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def read(self, study: str, request: PictureRequest) -> ErrorPictures:
        """Return the pictures for a request about a study, or why they cannot be shown."""
        key = study, request.split, request.positions
        with self._lock:
            if key not in self._known:
                found = _in_process(request)
                if found.problem:  # the images may come back
                    return found
                self._known[key] = found
                while len(self._known) > _MOST:
                    del self._known[next(iter(self._known))]
            return self._known[key]


def _in_process(request: PictureRequest) -> ErrorPictures:
    try:
        done = subprocess.run(
            _COMMAND,
            input=request.to_json(),
            capture_output=True,
            text=True,
            timeout=_TIMEOUT,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return ErrorPictures(problem=f"the images were not read within {_TIMEOUT} s")
    if done.returncode != 0:
        last = next(filter(None, reversed(done.stderr.splitlines())), "no message")
        return ErrorPictures(problem=f"the images cannot be read: {last}")
    return ErrorPictures.from_json(done.stdout)
