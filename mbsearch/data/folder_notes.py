"""Text about files left out of a data set, and about how pixels are converted."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

from mbsearch.data.decoding import BYTES_PER_PIXEL, Reading
from mbsearch.data.inspection import Inspected
from mbsearch.data.parallel import MEMORY

LARGE_PIXELS = 50_000_000
"""An image of more is slow to decode."""

_LISTED = 6  # classes or files in a line


def left_out_notes(left_out: Mapping[str, Counter[str]]) -> list[str]:
    """Return lines on the classes with left-out files, the class with the most files first."""
    ordered = sorted(left_out.items(), key=lambda each: -each[1].total())
    lines = [
        f"left out of {name}: {_files(counts.total())} ({reasons(counts)})"
        for name, counts in ordered[:_LISTED]
    ]
    if rest := ordered[_LISTED:]:
        total: Counter[str] = sum((counts for _, counts in rest), Counter())
        lines.append(
            f"left out of {len(rest):,} more classes: {_files(total.total())} ({reasons(total)})"
        )
    return lines


def reasons(counts: Mapping[str, int]) -> str:
    """Return text that lists reasons, each with its number of files, most frequent first."""
    ordered = sorted(counts.items(), key=lambda each: (-each[1], each[0]))
    return ", ".join(f"{reason}: {count:,}" for reason, count in ordered)


def image_notes(root: Path, images: Sequence[Inspected], reading: Reading) -> list[str]:
    """Return notes on how images are converted when read, and on unusual images, a line each."""
    lines, reports = [], [report for _, report in images]
    if animated := sum(report.animated for report in reports):
        lines.append(f"first frame or page only: {_of(animated, 'file')} of several")
    if transparent := sum(report.transparent for report in reports):
        lines.append(f"transparent pixels shown on white: {_of(transparent, 'image')}")
    for depth, low, high in reading.ranges:
        count = sum(report.depth == depth for report in reports)
        lines.append(
            f"{depth} pixel values from {_number(low)} to {_number(high)}, as in the whole data "
            f"set, scaled to 0 to 255: {_of(count, 'image')}"
        )
    large = [
        (report.width * report.height, file.path.relative_to(root), report)
        for file, report in images
        if report.width * report.height > LARGE_PIXELS
    ]
    if large:
        pixels, path, report = max(large, key=lambda each: each[0])
        lines.append(
            f"slow to read: {_of(len(large), 'image')} of more than "
            f"{LARGE_PIXELS // 10**6} megapixels; the largest ({path}, {pixels / 1e6:.0f} "
            f"megapixels) took {report.seconds:.1f} s; images read at once take at most "
            f"{MEMORY >> 30} GiB, one alone at most {BYTES_PER_PIXEL} bytes a pixel"
        )
    plain = [str(file.path.relative_to(root)) for file, report in images if report.one_colour]
    if plain:
        more = ", ..." if len(plain) > _LISTED else ""
        lines.append(
            f"warning: {_of(len(plain), 'image')} of {len(images):,} of one colour only: "
            f"{', '.join(plain[:_LISTED])}{more}"
        )
    return lines


def _of(count: int, noun: str) -> str:
    return f"{count:,} {noun}" + "s" * (count != 1)


def _files(count: int) -> str:
    return _of(count, "file")


def _number(value: float) -> str:
    return f"{value:,.0f}" if value == int(value) else f"{value:.4g}"
