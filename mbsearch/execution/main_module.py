"""The main module of a program that calls mbsearch: workers import it only if they need it.

It may be a script without a main guard, a notebook, or text that Python read from a pipe. Workers
need it for an evaluator that is defined there.
"""

from __future__ import annotations

import multiprocessing
import os
import pickle
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from mbsearch.errors import EvaluationError

_MAIN = "__main__"
UNGUARDED = 79
"""Exit code of a worker whose import of the main module calls mbsearch."""


def needs_main(evaluator: object) -> bool:
    """Whether an evaluator is, or refers to, an object that the main module defines.

    Raises:
        EvaluationError: workers cannot import it from there, or it cannot be sent to them.
    """
    try:
        needed = _MAIN.encode() in pickle.dumps(evaluator)
    except (pickle.PicklingError, AttributeError, TypeError) as error:
        raise EvaluationError(
            f"evaluator {type(evaluator).__qualname__}: cannot be sent to the workers ({error}); "
            "define its class at the top level of a module"
        ) from None
    if needed and main_file() is None:
        raise EvaluationError(
            f"evaluator {type(evaluator).__qualname__}: workers cannot import it from a notebook, "
            "from standard input or from python -c; define it in a module of its own"
        )
    return needed


def main_file() -> Path | None:
    """Return the file of the main module; None if it has none."""
    file = getattr(sys.modules[_MAIN], "__file__", None)
    return Path(file) if file is not None and Path(file).is_file() else None


@contextmanager
def hidden_main(*, hidden: bool) -> Iterator[None]:
    """If `hidden`, hide the main module from processes started inside the context."""
    main = sys.modules[_MAIN]
    names = ("__file__", "__spec__") if hidden else ()
    before = {name: getattr(main, name) for name in names if hasattr(main, name)}
    for name in before:
        setattr(main, name, None)
    try:
        yield
    finally:
        for name, value in before.items():
            setattr(main, name, value)


def exit_if_imported_by_worker() -> None:
    """Exit this process if it is a worker that is still importing the main module."""
    if getattr(multiprocessing.current_process(), "_inheriting", False):
        os._exit(UNGUARDED)


def unguarded_error() -> EvaluationError:
    """Return the error for a main module that calls mbsearch whenever it is imported."""
    return EvaluationError(
        f"{main_file()}: workers import this script for its evaluator, and it calls mbsearch each "
        'time; call it under `if __name__ == "__main__":`'
    )
