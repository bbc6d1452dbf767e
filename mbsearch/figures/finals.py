"""Networks that were trained for long, as a table: the proxy's accuracy beside the final one."""

from __future__ import annotations

from collections.abc import Sequence

from mbsearch.measured import Final
from mbsearch.units import quantity

FINALS_HEAD = ("Network", "Mult-Adds", "Accuracy by the proxy", "Test accuracy", "Seeds")
"""Of the table; the test images are those that the search never sees."""


def final_rows(finals: Sequence[Final]) -> list[list[str]]:
    """One row a network, as `FINALS_HEAD` names the columns, however many it stands beside."""
    distinct: dict[str, Final] = {}
    for final in finals:
        distinct.setdefault(final.fingerprint, final)
    return [
        [
            each.name,
            quantity("mult_adds", each.mult_adds),
            "not trained" if each.proxy_accuracy is None else f"{each.proxy_accuracy:.3f}",
            f"{each.accuracy:.4f}" + ("" if each.spread is None else f" ± {each.spread:.4f}"),
            str(each.seeds),
        ]
        for each in distinct.values()
    ]


def lead_sentences(finals: Sequence[Final]) -> list[str]:
    """How each candidate stands to the references of its cost, a sentence each."""
    return [f"{lead[0].upper()}{lead[1:]}." for each in finals for lead in each.leads]
