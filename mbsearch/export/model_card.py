"""Model card in Markdown: costs, accuracy, training data and files of a network."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mbsearch.analysis.answer import Answer, pixels_note
from mbsearch.config.scores import Score
from mbsearch.cost import METRICS, measure
from mbsearch.cost.metrics import columns, find_metric, quantity
from mbsearch.export.exportable import LABELS, Exportable
from mbsearch.export.formats import FORMATS, WrittenFile
from mbsearch.export.graphs import INT8
from mbsearch.export.markdown import code, escaped
from mbsearch.export.onnx_preprocessing import PreprocessedFile
from mbsearch.export.preprocessing import PREPROCESSING_FILE
from mbsearch.export.python_files import ARCHITECTURE
from mbsearch.export.usage_code import preprocessing_code, usage_blocks
from mbsearch.study.identity import IDENTITY
from mbsearch.study.images_record import ImagesRecord, balance_note
from mbsearch.study.latency_setting import LatencySetting
from mbsearch.study.records import TABLE, StartKind, State, TrialRecord
from mbsearch.study.store import DONOR
from mbsearch.study.trained_weights import TrainedWeights

CARD = "README.md"
EXPORTED_BY = "Exported by"
"""A row of every model card, which identifies cards of mbsearch."""
_FRESH = "fresh, not trained (a search keeps those of its finals); `mbsearch retrain` trains them."
_COSTS = ("mult_adds", "params")


@dataclass(frozen=True, slots=True)
class Origin:
    """Origin of an exported network: record, answer, settings, weights and command.

    `answer` is the answer of the study that chose it, else the answer to a budget equal to its
    cost, or the line that says why there is none. `settings` are the study's. `content` identifies
    network and weights. `int8` and `litert_int8` describe the accuracies of the quantised files.
    `preprocessed` are the ONNX files that take bytes.
    """

    record: TrialRecord
    answer: Answer | str
    settings: Mapping[str, Any]
    trained: TrainedWeights | None
    content: str
    command: str
    int8: str | None = None
    litert_int8: str | None = None
    preprocessed: tuple[PreprocessedFile, ...] = ()


def model_card(exportable: Exportable, origin: Origin, written: Sequence[WrittenFile]) -> str:
    """Return the model card of an exported network."""
    weights, images = _FRESH, ImagesRecord.of(origin.settings)
    if origin.trained is not None:
        weights = origin.trained.sentence()
        if images is not None:
            weights += (
                f" Of the {origin.trained.split} images, {images.balance(origin.trained.split)}."
            )
    sections = [
        f"# {escaped(exportable.architecture.name)}",
        escaped(exportable.title),
        f"**Weights:** {weights}",
        _cost(exportable, origin.record),
        _accuracy(origin.record, origin.trained, balance_note(images, "validation")),
        _against(origin.answer),
        _data(exportable, origin),
        _classes(exportable),
        _files(exportable, written, origin),
        *_use(exportable, written, origin),
    ]
    return "\n\n".join(sections) + "\n"


def _cost(exportable: Exportable, record: TrialRecord) -> str:
    """Return the section on costs, at the resolution of the files and at the network's own."""
    network = exportable.architecture
    own = {**record.costs, **measure(network)}
    size = exportable.images.size
    of_files = measure(network.replace(resolution=size))
    scaled = size != network.resolution
    head = ["", f"these files, {size} px", f"at its own {network.resolution} px"]
    rows = [
        [METRICS[metric].label, f"{of_files[metric]:,}" if metric in of_files else "", f"{count:,}"]
        for metric, count in own.items()
    ]
    rows.append(
        ["Input (pixels)", *(f"{s.height} x {s.width}" for s in (size, network.resolution))]
    )
    rows.append(["Width multiplier (alpha)", *[f"{network.alpha:g}"] * 2])
    if not scaled:  # then a cost that only the study knows is that of the files too
        head, rows = ["", "value"], [[name, value] for name, _, value in rows]
    note = f"\n\nThe weights were {pixels_note(size, network)}." if scaled else ""
    return (
        f"## Cost\n\n{_table(head, rows)}\n\nMult-Adds are multiply-accumulates of convolutions "
        "and linear layers for one image; biases, batch normalisation, activations and pooling are "
        f"not counted.{note}"
    )


def _accuracy(record: TrialRecord, trained: TrainedWeights | None, balance: str = "") -> str:
    """Describe the accuracy in the search; `balance` is the share of the largest class."""
    evaluation = record.evaluation
    if evaluation is None:
        return f"## {record.score.heading}\n\nNot measured in the search."
    noise = "not measured" if record.accuracy_noise is None else f"± {record.accuracy_noise:.3f}"
    if evaluation.evaluator == TABLE:
        return f"## {record.score.heading}\n\n**{record.accuracy:.3f}**, from the study's table."
    training = f"the study's {'short' if record.promotion is None else 'longer'} training"
    if record.state is State.PRUNED:
        training = f"epoch {len(evaluation.curve)} of {training}, where it was pruned,"
    predicted = ""
    if record.predicted is not None:
        predicted = f" A model of all trials predicts {record.predicted:.3f}."
    then = "a long training reaches another accuracy. The test images were not used."
    if trained is not None:
        then = "the exported weights are of a long training and have the accuracy above."
    value = f"**{record.accuracy:.3f}** of the validation images{balance} are classified correctly"
    if record.score is not Score.ACCURACY:
        value = f"{record.score.heading} **{record.accuracy:.3f}** on validation images{balance}"
    return (
        f"## {record.score.heading}\n\n{value} after {training} at {evaluation.pixels} pixels, "
        f"seed {evaluation.seed}. "
        f"Noise (standard deviation over seeds and images): {noise}.{predicted} "
        f"This ranks networks; {then}"
    )


def _against(answer: Answer | str) -> str:
    title = "## The answer within this budget"
    if isinstance(answer, str):
        return f"{title}\n\n{answer}."
    others = [margin.other for margin in answer.margins]
    cheaper = [] if answer.cheaper is None else [answer.cheaper]
    searched = [] if answer.searched is None else [answer.searched.other]
    distinct = {e.record.fingerprint: e for e in [answer.best, *searched, *others, *cheaper]}
    costs = columns(answer.record.metric, *_COSTS)
    head = (
        "network",
        answer.record.score.noun,
        "95 % interval",
        *(find_metric(metric).column for metric in costs),
    )
    rows = [
        (
            escaped(each.record.label),
            f"{each.accuracy.mean:.3f}",
            "" if each.accuracy.exact else each.accuracy.bounds(),
            *(quantity(metric, each.record.costs[metric]) for metric in costs),
        )
        for each in distinct.values()
    ]
    return f"{title}\n\n{answer.sentence()}.\n\n{_table(head, rows)}"


def _data(exportable: Exportable, origin: Origin) -> str:
    identity, evaluation = origin.settings[IDENTITY], origin.record.evaluation
    known = exportable.normalisation
    rows = [
        (
            "Images",
            f"{escaped(Path(identity['data']).name)} (content key `{identity['data_key'][:16]}`)",
        ),
        ("Classes", str(exportable.architecture.num_classes)),
        ("Normalisation", "unknown: the images were not found" if known is None else f"`{known}`"),
        ("Seed of search, split and training", str(identity["seed"])),
        *_start(origin),
        ("Network", origin.content),
        (EXPORTED_BY, code(origin.command)),
    ]
    latency = LatencySetting.of(origin.settings)
    if latency is not None:
        rows.append(("Latency", f"predicted for {escaped(str(latency))}"))
    if evaluation is not None:
        rows += [
            ("Evaluator", evaluation.evaluator),
            ("Device", evaluation.device),
            ("Versions", ", ".join(f"{n} {v}" for n, v in evaluation.versions.items())),
            ("Recipe of the search", code(json.dumps(dict(evaluation.recipe)))),
        ]
    if origin.trained is not None:
        rows.append(("Recipe of the weights", code(json.dumps(dict(origin.trained.recipe)))))
    return f"## How it was found and trained\n\n{_table(('', ''), rows)}"


def _start(origin: Origin) -> list[tuple[str, str]]:
    """Return table rows about the donor: weights, inherited share, normalisation, teacher."""
    start = origin.record.start
    if start is None:
        return []
    if start.kind is StartKind.FRESH:
        rows = [("Start", "fresh weights: too few of the donor's correspond to this network")]
    else:
        donor = origin.settings.get(DONOR, {})
        known = [escaped(each) for each in (donor.get("licence"), donor.get("source")) if each]
        title = escaped(donor.get("title", "a donor")) + (f" ({', '.join(known)})" if known else "")
        way = ", by way of the study's supernet" if start.kind is StartKind.SUPERNET else ""
        text = f"{start.share:.1%} of the weights are inherited from {title}{way}"
        normalised = escaped(donor.get("normalisation") or "unknown")
        note = f"{normalised}; this network takes images normalised as above"
        rows = [("Start", text), ("Normalisation of the donor", note)]
    teacher = origin.settings[IDENTITY].get("teacher")
    if teacher is not None and teacher["weight"] > 0:
        text = (
            f"the donor, fine-tuned on the study's images at {teacher['pixels']} px; distillation "
            f"with weight {teacher['weight']:g}, temperature {teacher['temperature']:g}"
        )
        rows.append(("Teacher", text))
    return rows


def _classes(exportable: Exportable) -> str:
    """Return the section that lists the class names in the order of the outputs."""
    if not exportable.class_names:
        count = exportable.architecture.num_classes
        return (
            f"## Classes\n\nUnknown: the images were not found, or do not have {count:,} classes."
        )
    listed = exportable.class_list(ascii_only=False)
    return f"## Classes\n\nIn the order of the outputs:\n\n```json\n{listed}\n```"


def _files(exportable: Exportable, written: Sequence[WrittenFile], origin: Origin) -> str:
    """Return a table of all files of the folder, and of formats that could not be written."""
    rows = []
    for each in written:
        if each.error is None:
            rows.append(("-", each.format, each.note or ""))
            continue
        first, *weights = FORMATS[each.format].files
        error = f"{each.error:.1e}" if each.error else "none"
        if FORMATS[each.format].int8:
            error = f"{error}, of the network rounded to int8. {origin.litert_int8 or ''}"
        rows.append((f"`{first}`", each.format, error))
        second = "header" if FORMATS[each.format].int8 else "weights"
        rows += [(f"`{file}`", f"{second} for `{first}`", "") for file in weights]
    if origin.int8 is not None:
        rows.append((f"`{INT8}`", "onnx, quantised to int8", origin.int8))
    if exportable.class_names:
        rows.append((f"`{LABELS}`", "class names, one a line, in the order of the outputs", ""))
    if exportable.normalisation is not None:
        rows.append((f"`{PREPROCESSING_FILE}`", "the section on use, as data", ""))
    rows.append((f"`{CARD}`", "this card", ""))
    table = _table(("file", "format", "relative error of the logits when read back"), rows)
    notes = [
        f"\n\n`{each.file}` takes bytes, uint8 (N, height, width, channels): scaling, mean and "
        f"deviation are in the file. Relative error of its logits on {each.images:,} images of the "
        f"study, to the file without them: {each.error:.1e}."
        for each in origin.preprocessed
    ]
    return f"## Files\n\n{table}{''.join(notes)}"


def _use(exportable: Exportable, written: Sequence[WrittenFile], origin: Origin) -> Iterator[str]:
    """Yield the parts of the section on use: from an image file to a class, with code."""
    known = exportable.normalisation
    normalised = "normalised as in training" if known is None else f"`{known}`"
    yield f"## Use\n\nInput: {exportable.input_text}; then {normalised}."
    if known is None:
        yield "The images were not found: mean and deviation are unknown, so that no code is given."
        return
    files = {file for w in written if w.error is not None for file in FORMATS[w.format].files}
    if origin.int8 is not None:
        files.add(INT8)
    blocks = list(usage_blocks(exportable, files, {each.file for each in origin.preprocessed}))
    if not blocks:
        yield f"`mbsearch count {ARCHITECTURE}` reads the network."
        return
    if known.deep:
        yield (
            "Images of more than 8 bits were scaled to 8 by the range of the data set. The code "
            "reads images of 8 bits."
        )
    yield "Preprocessing with numpy and Pillow, which all of the code below needs:"
    yield f"```python\n{preprocessing_code(exportable, known)}```"
    for title, source in blocks:
        yield f"### {title}\n\n```python\n{source}\n```"


def _table(head: Sequence[str], rows: Sequence[Sequence[str | None]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(str(cell or '') for cell in line)} |" for line in lines)
