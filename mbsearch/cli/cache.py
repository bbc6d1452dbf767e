"""``mbsearch cache``."""

from __future__ import annotations

from typing import Annotated

import typer
from rich.table import Table

from mbsearch.cli.terminal import err, print_table
from mbsearch.cost.units import BYTE_FACTORS, scaled
from mbsearch.display.console_log import print_line
from mbsearch.errors import SpecError


def cache(
    clear: Annotated[bool, typer.Option("--clear", help="Delete all of these files.")] = False,
    max_size: Annotated[
        str | None,
        typer.Option(
            help="Delete the least recently used image arrays until the others take at most this "
            "size, as 10G or 500M.",
            show_default=False,
        ),
    ] = None,
) -> None:
    """Show, clear or bound the files outside a study: image arrays, data sets, compiled kernels.

    They are made or downloaded again when they are needed. MBSEARCH_CACHE and NUMBA_CACHE_DIR name
    other folders.

    Example: mbsearch cache --max-size 10G
    """
    from mbsearch.accel import kernel_cache_folder
    from mbsearch.data.cached_files import cached_files, shrink_arrays

    if clear and max_size is not None:
        raise SpecError("expected --clear or --max-size, got both")
    if max_size is not None:
        deleted = shrink_arrays(_bytes("--max-size", max_size))
        print_line(err, f"deleted {deleted} image arrays")
    found = cached_files(kernel_cache_folder())
    if clear:
        for each in found:
            size = _megabytes(each.size)
            each.clear()
            print_line(err, f"deleted {size} of {each.kind} from {each.folder}")
        return
    table = Table(title="Files outside a study")
    table.add_column("files")
    table.add_column("size", justify="right", no_wrap=True)
    table.add_column("folder", no_wrap=True)
    for each in found:
        table.add_row(each.kind, _megabytes(each.size), str(each.folder))
    print_table(table)


def _megabytes(size: int) -> str:
    return f"{size / 1e6:,.1f} MB"


def _bytes(option: str, text: str) -> int:
    """Return the bytes for the size in an option, such as ``10G`` or ``500M``.

    Raises:
        SpecError: it is not a size; the option is named.
    """
    size = scaled(text, BYTE_FACTORS)
    if size is None:
        raise SpecError(f"{option}: expected a size, as 10G or 500M, got {text!r}")
    return round(size)
