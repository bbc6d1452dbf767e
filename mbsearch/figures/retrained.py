"""Retrained networks as a table: accuracy by the proxy beside test accuracy."""

from __future__ import annotations

from collections.abc import Sequence

from mbsearch.cost.units import quantity
from mbsearch.study.retrained_file import Retrained

RETRAINED_HEAD = ("Network", "Mult-Adds", "Accuracy by the proxy", "Test accuracy", "Seeds")
"""Of the table; the test images are those that the search never sees."""


def retrained_rows(retrained: Sequence[Retrained]) -> list[list[str]]:
    """One row a network, as `RETRAINED_HEAD` names the columns, however many it stands beside."""
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


def lead_sentences(retrained: Sequence[Retrained]) -> list[str]:
    """The margin of each candidate over the references of equal cost, a sentence each."""
    return [f"{text[0].upper()}{text[1:]}." for each in retrained for text in each.margins]
