"""Terms of the pages, each explained in a sentence behind a question mark."""

from __future__ import annotations

import dash_mantine_components as dmc

from mbsearch.dashboard import parts

TERMS = {
    "proxy": "A short training on small images that ranks networks before any long training.",
    "predicted": "Accuracy of a long training that a model of all trials of the study predicts.",
    "knee": "The network of the front that is farthest from the line between the front's ends.",
    "pruned": "A training that early stopping cut short: its predicted accuracy was too low.",
    "hypervolume": "Area under the front, over the logarithm of the cost; larger is better.",
}


def help_mark(term: str) -> dmc.Tooltip:
    """Return a question mark that explains a term on hover, on focus and to screen readers."""
    text = TERMS[term]
    return dmc.Tooltip(
        dmc.ActionIcon(
            "?",
            size="xs",
            radius="xl",
            variant="default",
            className="help",
            **parts.aria(label=f"{term}: {text}"),
        ),
        label=text,
        multiline=True,
        w=260,
        events={"hover": True, "focus": True, "touch": True},
    )
