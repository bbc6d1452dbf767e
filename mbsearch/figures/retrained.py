"""Table of retrained networks, with proxy accuracy and test accuracy."""

from __future__ import annotations

from collections.abc import Sequence

from mbsearch.cost.metrics import quantity
from mbsearch.study.retrained_file import Retrained

RETRAINED_HEAD = ("Network", "Mult-Adds", "Proxy accuracy", "Test accuracy", "Seeds")
"""Columns of the table. The search does not use test images."""


def retrained_rows(retrained: Sequence[Retrained]) -> list[list[str]]:
    """Return one table row per retrained network, with the columns of `RETRAINED_HEAD`."""
    distinct: dict[str, Retrained] = {}
    for each in retrained:
        distinct.setdefault(each.fingerprint, each)
    return [
        [
            each.name,
            quantity("mult_adds", each.costs["mult_adds"]),
            "not trained" if each.proxy_accuracy is None else f"{each.proxy_accuracy:.3f}",
            f"{each.accuracy:.4f}" + ("" if each.spread is None else f" ± {each.spread:.4f}"),
            str(len(each.seeds)),
        ]
        for each in distinct.values()
    ]


def margin_sentences(retrained: Sequence[Retrained]) -> list[str]:
    """Return a sentence for each margin of a candidate over a reference of equal cost."""
    return [f"{margin[0].upper()}{margin[1:]}." for each in retrained for margin in each.margins]
