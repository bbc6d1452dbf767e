"""Model card in Markdown: costs, accuracy, training data and files of a network."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from mbsearch.analysis.answer import Answer, pixels_note
from mbsearch.cost import METRICS, measure
from mbsearch.cost.metrics import columns, find_metric, quantity
from mbsearch.export.exportable import Exportable
from mbsearch.export.formats import WrittenFile
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
    network and weights. `int8` describes the accuracy of the quantised file.
    """

    record: TrialRecord
    answer: Answer | str
    settings: Mapping[str, Any]
    trained: TrainedWeights | None
    content: str
    command: str
    int8: str | None = None


def model_card(exportable: Exportable, origin: Origin, written: Sequence[WrittenFile]) -> str:
    """Return the model card of an exported network."""
    weights = _FRESH if origin.trained is None else origin.trained.sentence()
    sections = [
        f"# {exportable.architecture.name}",
        exportable.title,
        f"**Weights:** {weights}",
        _cost(exportable, origin.record),
        _accuracy(origin.record, origin.trained),
        _against(origin.answer),
        _data(exportable, origin),
        _files(written),
        *([] if origin.int8 is None else [f"## int8\n\n`model.int8.onnx`: {origin.int8}"]),
        _use(exportable, written),
    ]
    return "\n\n".join(sections) + "\n"


def _cost(exportable: Exportable, record: TrialRecord) -> str:
    """Return the section on costs, at the resolution of the files and at the network's own."""
    network = exportable.architecture
    own = {**record.costs, **measure(network)}
    of_files = measure(network.replace(resolution=exportable.side))
    scaled = exportable.side != network.resolution
    head = ["", f"these files, {exportable.side} px", f"at its own {network.resolution} px"]
    rows = [
        [METRICS[metric].label, f"{of_files[metric]:,}" if metric in of_files else "", f"{count:,}"]
        for metric, count in own.items()
    ]
    rows.append(
        ["Input (pixels)", *(f"{side} x {side}" for side in (exportable.side, network.resolution))]
    )
    rows.append(["Width multiplier (alpha)", *[f"{network.alpha:g}"] * 2])
    if not scaled:  # then a cost that only the study knows is that of the files too
        head, rows = ["", "value"], [[name, value] for name, _, value in rows]
    note = f"\n\nThe weights were {pixels_note(exportable.side, network)}." if scaled else ""
    return (
        f"## Cost\n\n{_table(head, rows)}\n\nMult-Adds are multiply-accumulates of convolutions "
        "and linear layers for one image; biases, batch normalisation, activations and pooling are "
        f"not counted.{note}"
    )


def _accuracy(record: TrialRecord, trained: TrainedWeights | None) -> str:
    evaluation = record.evaluation
    if evaluation is None:
        return "## Accuracy\n\nNot measured in the search."
    noise = "not measured" if record.accuracy_noise is None else f"± {record.accuracy_noise:.3f}"
    if evaluation.evaluator == TABLE:
        return f"## Accuracy\n\n**{record.accuracy:.3f}**, from the study's table."
    training = f"the study's {'short' if record.promotion is None else 'longer'} training"
    if record.state is State.PRUNED:
        training = f"epoch {len(evaluation.curve)} of {training}, where it was pruned,"
    predicted = ""
    if record.predicted is not None:
        predicted = f" A model of all trials predicts {record.predicted:.3f}."
    then = "a long training reaches another accuracy. The test images were not used."
    if trained is not None:
        then = "the exported weights are of a long training and have the accuracy above."
    return (
        f"## Accuracy\n\n**{record.accuracy:.3f}** of the validation images are classified "
        f"correctly after {training} at {evaluation.pixels} pixels, seed {evaluation.seed}. "
        f"Noise (standard deviation of one such number over seeds): {noise}.{predicted} "
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
        "accuracy",
        "95 % interval",
        *(find_metric(metric).column for metric in costs),
    )
    rows = [
        (
            each.record.label,
            f"{each.accuracy.mean:.3f}",
            "" if each.accuracy.exact else each.accuracy.bounds(),
            *(quantity(metric, each.record.costs[metric]) for metric in costs),
        )
        for each in distinct.values()
    ]
    return f"{title}\n\n{answer.sentence()}.\n\n{_table(head, rows)}"


def _data(exportable: Exportable, origin: Origin) -> str:
    identity, evaluation = origin.settings["stamp"], origin.record.evaluation
    known = exportable.normalisation
    rows = [
        ("Images", f"{identity['data']} (content key `{identity['data_key'][:16]}`)"),
        ("Classes", str(exportable.architecture.num_classes)),
        ("Normalisation", "unknown: the images were not found" if known is None else f"`{known}`"),
        ("Seed of search, split and training", str(identity["seed"])),
        *_start(origin),
        ("Network", origin.content),
        (EXPORTED_BY, f"`{origin.command}`"),
    ]
    if evaluation is not None:
        rows += [
            ("Evaluator", evaluation.evaluator),
            ("Device", evaluation.device),
            ("Versions", ", ".join(f"{n} {v}" for n, v in evaluation.versions.items())),
            ("Recipe of the search", f"`{json.dumps(dict(evaluation.recipe))}`"),
        ]
    if origin.trained is not None:
        rows.append(("Recipe of the weights", f"`{json.dumps(dict(origin.trained.recipe))}`"))
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
        known = [each for each in (donor.get("licence"), donor.get("source")) if each]
        title = donor.get("title", "a donor") + (f" ({', '.join(known)})" if known else "")
        way = ", by way of the study's supernet" if start.kind is StartKind.SUPERNET else ""
        text = f"{start.share:.1%} of the weights are inherited from {title}{way}"
        normalised = donor.get("normalisation") or "unknown"
        note = f"{normalised}; this network takes images normalised as above"
        rows = [("Start", text), ("Normalisation of the donor", note)]
    teacher = origin.settings["stamp"].get("teacher")
    if teacher is not None and teacher["weight"] > 0:
        text = (
            f"the donor, fine-tuned on the study's images at {teacher['pixels']} px; distillation "
            f"with weight {teacher['weight']:g}, temperature {teacher['temperature']:g}"
        )
        rows.append(("Teacher", text))
    return rows


def _files(written: Sequence[WrittenFile]) -> str:
    rows = [
        (
            f"`{each.file}`" if each.error is not None else "-",
            each.format,
            each.note if each.error is None else f"{each.error:.1e}" if each.error else "none",
        )
        for each in written
    ]
    table = _table(("file", "format", "relative error of the logits when read back"), rows)
    return f"## Files\n\n{table}"


def _use(exportable: Exportable, written: Sequence[WrittenFile]) -> str:
    side, done = exportable.side, {w.format for w in written if w.error is not None}
    lines = {
        "pytorch": "from model import Network  # imports only torch\n"
        "from safetensors.torch import load_file\n\n"
        'network = Network()\nnetwork.load_state_dict(load_file("model.safetensors"))\n'
        f"logits = network.eval()(images)  # (N, 3, {side}, {side}), normalised as above",
        "torch-export": 'logits = torch.export.load("model.pt2").module()(images)',
        "onnx": 'session = onnxruntime.InferenceSession("model.onnx")\n'
        '(logits,) = session.run(None, {"images": images.numpy()})',
    }
    blocks = [f"```python\n{text}\n```" for name, text in lines.items() if name in done]
    return "\n\n".join(["## Use", *(blocks or ["`mbsearch count architecture.yaml` reads it."])])


def _table(head: Sequence[str], rows: Sequence[Sequence[str | None]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(str(cell or '') for cell in line)} |" for line in lines)
