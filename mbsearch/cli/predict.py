"""``mbsearch predict``."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.markup import escape

from mbsearch.cli.evaluate import ExportedNetwork, LabelsFile, PreprocessingFile
from mbsearch.cli.terminal import Json, err, plain_table, print_table
from mbsearch.display.console_log import print_line
from mbsearch.errors import DataError

if TYPE_CHECKING:
    from mbsearch.export.file_prediction import FilePredictions


def predict(
    file: ExportedNetwork,
    images: Annotated[list[Path], typer.Argument(help="Image files, or folders of images.")],
    top: Annotated[int, typer.Option(min=1, help="Classes to print for each image.")] = 3,
    preprocessing: PreprocessingFile = None,
    labels: LabelsFile = None,
    as_json: Json = False,
) -> None:
    """Predict the most probable classes of images with an exported file.

    Images are decoded, resized and normalised as in training. Images that cannot be read are named
    after the predictions of the others.

    Example: mbsearch predict winner/model.onnx photo.jpg more_photos
    """
    from mbsearch.data.image_files import damage_message
    from mbsearch.export import file_prediction
    from mbsearch.export.exported_file import open_exported

    opened = open_exported(file, preprocessing, labels)
    found = file_prediction.predict(opened, images, top)
    for note in found.notes:
        print_line(err, note)
    if as_json:
        rows = [asdict(each) for each in found.images]
        unreadable = [{"path": str(e.path), "fault": e.fault} for e in found.unreadable]
        print(json.dumps({"images": rows, "unreadable": unreadable}))  # noqa: T201
    elif found.images:
        _print(found)
    if found.unreadable:
        raise DataError(damage_message(", ".join(map(str, images)), found.unreadable))
    if not found.images:
        raise DataError(f"{images[0]}: expected images, got none")


def _print(found: FilePredictions) -> None:
    table = plain_table("")
    for column, justify in (("image", "left"), ("class", "left"), ("probability", "right")):
        table.add_column(column, justify=justify, no_wrap=True)  # type: ignore[arg-type]
    for each in found.images:
        for i, of_class in enumerate(each.classes):
            name = escape(each.path) if i == 0 else ""
            table.add_row(name, escape(of_class.name), f"{of_class.probability:.3f}")
    if len(found.images) > 1:
        first = Counter(each.classes[0].name for each in found.images)
        counts = ", ".join(f"{name} {count:,}" for name, count in first.most_common())
        table.caption = escape(f"{len(found.images):,} images by their first class: {counts}")
        table.caption_justify = "left"
    print_table(table)
