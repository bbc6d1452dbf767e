"""Section of the report: the errors of the answer's network."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from html import escape

from mbsearch.analysis.class_errors import class_errors
from mbsearch.analysis.kept_predictions import KeptPredictions
from mbsearch.analysis.worst_errors import WORST_ERRORS, ErrorPictures, WorstError, worst_errors
from mbsearch.figures.errors import CONFUSIONS_HEAD, confusion_figure, error_rows, recall_figure
from mbsearch.report.card_html import html_table
from mbsearch.report.figure_html import figure_html
from mbsearch.study.images_record import ImagesRecord

ReadPictures = Callable[[KeptPredictions, Sequence[WorstError]], ErrorPictures]
"""Returns the pictures of errors of a network's predictions."""

_LEAST_HEIGHT, _ROW_HEIGHT, _MOST_ROWS = 240, 24, 30  # pixels, pixels, classes


def without_pictures(_kept: KeptPredictions, _errors: Sequence[WorstError]) -> ErrorPictures:
    """Return no pictures, for a report that is made without the images."""
    return ErrorPictures(problem="the report was made without them")


def errors_html(
    label: str, kept: KeptPredictions, images: ImagesRecord | None, read_pictures: ReadPictures
) -> list[str]:
    """Return confusion matrix, recalls, frequent confusions and worst errors of a network.

    Args:
        label: of the network.
        kept: its predictions.
        images: of the study, for the names of the classes.
        read_pictures: of the worst errors.
    """
    errors, worst = class_errors(kept, images), worst_errors(kept.own)
    height = _LEAST_HEIGHT + _ROW_HEIGHT * min(_MOST_ROWS, len(errors.names))
    rows = [[escape(cell) for cell in row] for row in error_rows(errors)]
    return [
        f"<h2>Where {escape(label)} errs</h2>",
        f'<p class="dim">{escape(kept.description())}</p>',
        figure_html(confusion_figure(errors), "confusion", height),
        figure_html(recall_figure(errors, kept.label), "recall", height),
        "<h3>Most frequent confusions</h3>",
        html_table(CONFUSIONS_HEAD, rows),
        "<h3>Worst errors</h3>",
        f'<p class="dim">{WORST_ERRORS}</p>',
        *_pictures(worst, errors.names, read_pictures(kept, worst)),
    ]


def _pictures(
    worst: Sequence[WorstError], names: Sequence[str], pictures: ErrorPictures
) -> list[str]:
    """Return the errors with their pictures; without pictures a line that says why, and a list."""
    captions = [
        f"<strong>{escape(names[each.true])}</strong> as {escape(each.caption(names))}"
        for each in worst
    ]
    if pictures.problem:
        lines = "".join(f"<li>{caption}</li>" for caption in captions)
        problem = f"The images cannot be shown: {escape(pictures.problem)}."
        return [f'<p class="damaged">{problem}</p>', f"<ul>{lines}</ul>"]
    figures = [
        f'<figure><img src="{pictures.source(i)}" width="96" height="96" '
        f'alt="Image of {escape(names[each.true])}"><figcaption>{caption}</figcaption></figure>'
        for i, (each, caption) in enumerate(zip(worst, captions, strict=True))
    ]
    return [f'<div class="pictures">{"".join(figures)}</div>']
