"""The card beside a point of the front: accuracy, cost, differences from references, drawing."""

from __future__ import annotations

import math
from collections.abc import Sequence
from urllib.parse import quote

from dash import html
from dash.development.base_component import Component

from mbsearch.analysis.intervals import Interval, points
from mbsearch.config.families import COMPETITORS
from mbsearch.cost.metrics import amount
from mbsearch.dashboard import parts
from mbsearch.figures.network import nearest
from mbsearch.figures.thumbnail import thumbnail
from mbsearch.study.records import TrialRecord

_DEVICE_MEMORY = {"flash_bytes", "ram_bytes"}


def hover_card(
    record: TrialRecord, records: Sequence[TrialRecord], finals: Interval | None = None
) -> Component:
    """Return the content of a network's card, with references of similar cost from `records`.

    `finals` is the network's accuracy after the finals.
    """
    noun = record.score.noun
    drawing = f"data:image/svg+xml,{quote(thumbnail(record.architecture))}"
    size = f"alpha {record.architecture.alpha:g}, {record.architecture.resolution} px"
    near = [nearest(records, family, record.cost) for family in COMPETITORS]
    others = [each for each in near if each is not None and each.trial != record.trial]
    return html.Div(
        [
            html.Strong(record.label),
            html.Div(f"{noun} {parts.accuracy_and_step(record)}"),
            *([] if finals is None else [html.Div(f"{noun} {finals.mean:.3f}, finals")]),
            html.Div(f"{amount(record.metric, record.cost)}, {size}"),
            *([html.Div(_device_memory(record))] if record.costs.keys() >= _DEVICE_MEMORY else []),
            *(html.Div(_difference(record, each), className="delta") for each in others),
            html.Img(src=drawing, alt=""),
        ],
        className="network-card",
    )


def _device_memory(record: TrialRecord) -> str:
    """Return the memory on a microcontroller: ``300 KiB of flash, 96 KiB of RAM``."""
    return ", ".join(amount(key, record.costs[key]) for key in sorted(_DEVICE_MEMORY))


def _difference(record: TrialRecord, other: TrialRecord) -> str:
    """Return ``+2.5 ± 1.7 points over MobileNetV2 0.35/128 at 0.97 times its cost``."""
    own, reference = record.at_highest_fidelity, other.at_highest_fidelity
    if record.promotion is None or other.promotion is None:
        own, reference = record, other  # of equal fidelity
    noise = ""
    if own.accuracy_noise is not None and reference.accuracy_noise is not None:
        noise = f" ± {100 * math.hypot(own.accuracy_noise, reference.accuracy_noise):.1f}"
    return (
        f"{points(own.accuracy - reference.accuracy)}{noise} points over {other.label} "
        f"at {record.cost / other.cost:.2f} times its cost"
    )
