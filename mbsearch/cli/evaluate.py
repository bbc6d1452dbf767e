"""``mbsearch evaluate``."""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, cast

import typer
from rich.markup import escape

from mbsearch.cli.terminal import (
    Json,
    SkipDamaged,
    err,
    plain_table,
    print_table,
    print_text,
    require_one_of,
)
from mbsearch.display.console_log import print_line
from mbsearch.progress import CountLines

if TYPE_CHECKING:
    from mbsearch.export.file_evaluation import FileEvaluation

_SPLITS = ("test", "validation", "train", "all")

ExportedNetwork = Annotated[
    Path,
    typer.Argument(
        help="Exported network: .onnx, .tflite, .pt2, .py or .safetensors. A .py file is run."
    ),
]
PreprocessingFile = Annotated[
    Path | None,
    typer.Option(
        "--preprocessing",
        help="JSON file with size, colours, mean and deviation of the input. By default the "
        "file's metadata, else preprocessing.json beside it.",
        show_default=False,
    ),
]
LabelsFile = Annotated[
    Path | None,
    typer.Option(
        "--labels",
        help="Class names in the order of the outputs, one a line. By default the file's "
        "metadata, else labels.txt beside it.",
        show_default=False,
    ),
]


def evaluate(
    file: ExportedNetwork,
    data: Annotated[str, typer.Option(help="Image folder or name of a data set.")],
    split: Annotated[
        str, typer.Option(help="Images to evaluate on: test, validation, train or all.")
    ] = "test",
    seed: Annotated[
        int,
        typer.Option(min=0, help="Seed of the study, which draws the splits that a folder lacks."),
    ] = 0,
    min_images: Annotated[
        int, typer.Option(min=1, help="Leave out classes with fewer training images.")
    ] = 1,
    skip_damaged: SkipDamaged = False,
    preprocessing: PreprocessingFile = None,
    labels: LabelsFile = None,
    as_json: Json = False,
) -> None:
    """Evaluate an exported file on images: accuracy, recall per class, time an image.

    Images are decoded, resized and normalised as in training. The class folders may be in any
    order, but their names must be those of the file.

    Example: mbsearch evaluate winner/model.int8.onnx --data photos
    """
    require_one_of("--split", split, _SPLITS)
    from mbsearch.data.sources import load_source
    from mbsearch.export import file_evaluation
    from mbsearch.export.exported_file import open_exported

    opened = open_exported(file, preprocessing, labels)
    on_progress = CountLines(partial(print_line, err))
    source = load_source(data, seed=seed, min_images=min_images, on_progress=on_progress)
    if not skip_damaged:
        source.require_undamaged()
    for note in (*source.notes, *source.damage):
        print_line(err, note)
    kind = cast("file_evaluation.EvaluatedSplit", split)
    if file_evaluation.is_drawn(source, kind):
        print_line(err, f"{split} images: drawn from the training images with seed {seed}")
    found = file_evaluation.evaluate(opened, source, kind, on_progress)
    if as_json:
        print(json.dumps(found.to_dict()))  # noqa: T201  rich would wrap long lines
    else:
        _print(found)


def _print(found: FileEvaluation) -> None:
    print_text(
        f"accuracy {found.accuracy:.4f} (95 % interval {found.low:.3f} to {found.high:.3f}) on "
        f"{found.images:,} {'images' if found.split == 'all' else f'{found.split} images'}, "
        f"largest class {found.largest_class:.3f}"
    )
    if found.accuracy <= found.largest_class:
        print_text("no better than always naming the largest class: are its weights trained?")
    print_text(
        f"{1e3 * found.median_seconds:.2f} ms an image (median) by {found.engine} on one thread, "
        "without decoding and resizing"
    )
    table = plain_table("Recall, lowest first")
    for column in ("class", "images", "recall", "95 % interval"):
        table.add_column(column, justify="left" if column == "class" else "right", no_wrap=True)
    for each in found.recalls:
        interval = f"{each.low:.3f}-{each.high:.3f}"
        table.add_row(escape(each.name), f"{each.images:,}", f"{each.recall:.3f}", interval)
    print_table(table)
