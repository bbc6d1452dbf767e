"""Page of one network: drawing, costs, training and downloads."""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import dash_mantine_components as dmc
from dash import ClientsideFunction, Dash, Input, Output, State, dcc, html, no_update
from dash.development.base_component import Component

from mbsearch.analysis.answer import Answer
from mbsearch.analysis.answer_selection import answers
from mbsearch.analysis.front import front_of, knee_of
from mbsearch.analysis.int8_loss import int8_text
from mbsearch.analysis.option_text import option_text
from mbsearch.analysis.step_accuracies import step_accuracies
from mbsearch.config.families import COMPETITORS
from mbsearch.cost import layer_costs
from mbsearch.cost.explanation import CONVENTION, HEAD, SYMBOLS, explain
from mbsearch.dashboard import parts
from mbsearch.dashboard.downloads import DEFAULT_FORMATS, FORMATS
from mbsearch.dashboard.errors_panel import errors_panel, register_pictures
from mbsearch.dashboard.glossary import help_mark
from mbsearch.dashboard.parts import Fields
from mbsearch.dashboard.studies import Library, Snapshot
from mbsearch.dashboard.view import View, query
from mbsearch.errors import StorageError
from mbsearch.figures.comparison import comparison
from mbsearch.figures.network import curve_figure, layer_bars, nearest
from mbsearch.figures.retrained import margin_sentences, retrained_head, retrained_rows
from mbsearch.figures.stages import drawing, drawing_height
from mbsearch.space.image_format import ImageFormat
from mbsearch.study.images_record import ImagesRecord, balance_note
from mbsearch.study.notes_file import NOTES, Note, read_notes, write_note
from mbsearch.study.records import UNTRIED, DeadUnits, TrialRecord, complete
from mbsearch.study.records import State as TrialState
from mbsearch.study.retrained_file import Retrained

TITLE, ADDRESS, ORDER = "Network", "network", 2
NEEDS = "results"


def layout(snapshot: Snapshot, fields: Fields, _library: Library) -> Component:
    """Return the page of the selected network, by default the answer for the first budget."""
    record = chosen(snapshot, fields)
    if record is None:
        trial = View.parse(fields).trial
        return parts.notice_alone(
            "No such network", f"Expected a trial of {snapshot.name}, got {trial}."
        )
    architecture = record.architecture
    finals = snapshot.measured.retrained_beside(record.fingerprint)
    return html.Div(
        [
            *_head(snapshot, record, fields),
            parts.panel(
                "Stages",
                dmc.Text(
                    "A box is a block; its width is the square root of its channels. Bars are "
                    "shares of the whole network. A stage under the pointer is marked in the "
                    "layers below.",
                    size="sm",
                    c="dimmed",
                ),
                html.Div(
                    parts.graph(
                        "drawing",
                        drawing(architecture),
                        _in_words(record),
                        f"{drawing_height(architecture)}px",
                    ),
                    className="wide",
                    tabIndex=0,
                ),
                mb="md",
            ),
            dcc.Store(id="stage-marked"),
            dmc.SimpleGrid(
                [
                    parts.panel(
                        "Cost of each layer",
                        parts.graph(
                            "bars", layer_bars(architecture), "Cost of each layer", "460px"
                        ),
                    ),
                    parts.panel(
                        "Learning curve",
                        parts.graph(
                            "curve",
                            curve_figure([record], snapshot.records),
                            f"Validation {record.score.noun} over epochs",
                            "460px",
                        ),
                    ),
                ],
                cols={"base": 1, "md": 2},
                mb="md",
            ),
            *_retraining(finals, snapshot.measured.retrained),
            errors_panel(snapshot, record),
            _section(
                "Use it in Python", _snippets(_input_format(record, finals)), identifier="code"
            ),
            _section("Recipe", _facts(training(record)), identifier="recipe"),
            _section("Choices", _facts(choices(record)), identifier="choices"),
            _section("Layers", _layer_table(record), identifier="layers"),
            _section("Cost explained", _explanation(record), identifier="explanation"),
            *_classes(snapshot.findings.images),
            dcc.Download(id="download"),
        ]
    )


def _head(snapshot: Snapshot, record: TrialRecord, fields: Fields) -> list[Any]:
    """Return name, state, comparison with the references, links and downloads."""
    known = parts.costs(record), parts.latencies(record, snapshot.measured)
    steps = step_accuracies(snapshot.findings, record)
    highest = record.state.word
    if steps:
        balance = balance_note(snapshot.findings.images, steps[0].split)
        highest = f"{record.score.heading} {steps[0]}{balance}"
    message = [] if record.error is None else [dmc.Text(record.error, className="message")]
    return [
        dmc.Group(
            [
                dmc.Title(record.label, order=1, size="h2"),
                dmc.Badge(state_text(record), variant="light", id="state", tt="none"),
                dmc.Text(highest, fw=600, id="accuracy"),
                *(dmc.Text(str(each), c="dimmed") for each in steps[1:]),
                help_mark("proxy"),
                dmc.Text(", ".join(filter(None, known)), c="dimmed"),
            ],
            gap="md",
            mb="xs",
        ),
        *message,
        html.Div(
            [dmc.Text(line) for line in comparisons(record, snapshot.records)], id="comparisons"
        ),
        html.Nav(
            [*_compare_links(snapshot, record, fields), *_neighbours(snapshot, record, fields)],
            className="row",
            **parts.aria(label="Other networks"),
        ),
        _downloads(snapshot, record),
        _note(snapshot, record),
    ]


def _note(snapshot: Snapshot, record: TrialRecord) -> Component:
    """Return the controls for the network's pin and note, which are stored beside the study."""
    try:
        note, problem = read_notes(snapshot.folder).get(record.fingerprint, Note()), ""
    except StorageError as error:
        note, problem = Note(), str(error)
    return dmc.Group(
        [
            dmc.Checkbox(id="pin", label="Pin this network", checked=note.pinned),
            dmc.Textarea(
                id="note",
                value=note.text,
                placeholder="Note",
                autosize=True,
                debounce=500,
                miw=280,
                **parts.aria(label="Note on this network"),
            ),
            dmc.Text(problem, id="note-status", size="sm", **parts.aria(live="polite")),
        ],
        mb="md",
    )


def state_text(record: TrialRecord) -> str:
    """Return the state: ``completed``, or ``pruned after epoch 1 of 4``."""
    evaluation = record.evaluation
    if record.state is not TrialState.PRUNED or evaluation is None:
        return record.state.word
    epochs = evaluation.recipe.get("epochs")
    of = "" if epochs is None else f" of {epochs}"
    return f"pruned after epoch {len(evaluation.curve)}{of}"


def comparisons(record: TrialRecord, records: Sequence[TrialRecord]) -> list[str]:
    """Return a comparison with one reference of each family: the one most similar in cost."""
    return [comparison(record, reference) for reference in _references(record, records)]


def _references(record: TrialRecord, records: Sequence[TrialRecord]) -> list[TrialRecord]:
    found = [nearest(records, family, record.cost) for family in reversed(COMPETITORS)]
    return [r for r in found if r is not None and r.trial != record.trial]


def _compare_links(snapshot: Snapshot, record: TrialRecord, fields: Fields) -> list[Any]:
    return [
        dcc.Link(
            f"Compare with {other.label}",
            href=f"compare{query({**fields, 'trial': record.trial, 'other': other.trial})}",
            className="compare",
        )
        for other in _references(record, snapshot.records)
    ]


def _section(title: str, content: Any, *, identifier: str) -> Component:
    """Return a section that opens with a click on its title."""
    return html.Details(
        [html.Summary(title), html.Div(content)], id=f"{identifier}-section", className="section"
    )


def _input_format(record: TrialRecord, finals: Sequence[Retrained]) -> ImageFormat:
    """Return the format of the images that an exported network takes."""
    own = [each.pixels for each in finals if each.fingerprint == record.fingerprint]
    own += [final.pixels for final in record.finals]
    own_format = record.architecture.image_format
    return replace(own_format, size=own[0]) if own else own_format


def snippets(images: ImageFormat) -> dict[str, str]:
    """Return Python code that uses an export's files, as a mapping from title to code."""
    shape = ", ".join(map(str, (1, *images.shape)))
    return {
        "Load in PyTorch": (
            "import torch\n"
            "from model import Network\n"
            "from safetensors.torch import load_file\n\n"
            "network = Network()\n"
            'network.load_state_dict(load_file("model.safetensors"))\n'
            "network.eval()\n"
            f"logits = network(torch.zeros({shape}))\n"
        ),
        "Run in ONNX Runtime": (
            "import numpy as np\n"
            "import onnxruntime\n\n"
            'session = onnxruntime.InferenceSession("model.onnx")\n'
            f"images = np.zeros(({shape}), np.float32)\n"
            "(logits,) = session.run(None, {session.get_inputs()[0].name: images})\n"
        ),
    }


def _snippets(images: ImageFormat) -> list[Any]:
    colours = "grey" if images.channels == 1 else "RGB"
    found: list[Any] = [
        dmc.Text(
            f"In the folder of an export. Images are {colours} in [0, 1], then normalised as the "
            "model card says.",
            size="sm",
            c="dimmed",
        )
    ]
    for i, (title, code) in enumerate(snippets(images).items()):
        found += [
            dmc.Group(
                [
                    dmc.Text(title, fw=500),
                    dcc.Clipboard(target_id=f"code-{i}", title="Copy the code", className="copy"),
                ],
                mt="sm",
            ),
            html.Pre(code, id=f"code-{i}", className="code", tabIndex=0),
        ]
    return found


def redraw_key(snapshot: Snapshot, fields: Fields) -> Any:
    """Return a key that changes when the page must be drawn again; None without a network."""
    record = chosen(snapshot, fields)
    if record is None:
        return None
    expected = None if record.predicted is None else f"{record.predicted:.4f}"
    return [
        record.trial,
        str(record.state),
        parts.accuracy(record),
        expected,
        [
            [each.fingerprint, list(each.accuracies), each.int8_accuracy]
            for each in snapshot.measured.retrained
        ],
        len(record.finals),
    ]


def register(app: Dash, library: Library) -> None:
    """Register the callbacks for downloads, notes and pictures."""
    register_pictures(app, library)

    @app.callback(
        Output("download", "data"),
        Input("take-yaml", "n_clicks"),
        State("view", "data"),
        prevent_initial_call=True,
    )
    def download(_clicks: int, fields: Fields) -> Any:
        record = chosen(library.snapshot(fields.get("study")), fields)
        assert record is not None, "only the page of a network has this button"
        text = record.architecture.to_yaml()
        return {"content": text, "filename": f"{record.slug}.yaml"}

    @app.callback(
        Output("export-job", "data"),
        Output("export-tick", "disabled"),
        Input("take-all", "n_clicks"),
        State("export-formats", "value"),
        State("view", "data"),
        prevent_initial_call=True,
    )
    def start(_clicks: int, formats: list[str], fields: Fields) -> Any:
        snapshot = library.snapshot(fields.get("study"))
        record = chosen(snapshot, fields)
        assert record is not None, "only the page of a network has this button"
        chosen_formats = formats or list(DEFAULT_FORMATS)
        study, environment = library.arguments(snapshot.name), library.environment()
        key = library.exports.start(study, record.trial, chosen_formats, environment)
        return {"key": key, "name": f"{record.slug}.zip"}, False

    @app.callback(
        Output("export-status", "children"),
        Output("export-tick", "disabled", allow_duplicate=True),
        Output("download", "data", allow_duplicate=True),
        Input("export-tick", "n_intervals"),
        State("export-job", "data"),
        prevent_initial_call=True,
    )
    def follow(_tick: int, running: dict[str, str]) -> Any:
        job = library.exports.job(running["key"])
        if job is None:
            return no_update, True, no_update
        if job.archive is None:
            return job.status(), job.ended is not None, no_update
        content = base64.b64encode(job.archive).decode()
        return job.status(), True, {"content": content, "filename": running["name"], "base64": True}

    @app.callback(
        Output("note-status", "children"),
        Input("pin", "checked"),
        Input("note", "value"),
        State("view", "data"),
        prevent_initial_call=True,
    )
    def keep(pinned: bool, text: str, fields: Fields) -> Any:
        snapshot = library.snapshot(fields.get("study"))
        record = chosen(snapshot, fields)
        assert record is not None, "only the page of a network has a note"
        note = Note(text.strip(), pinned)
        try:
            if read_notes(snapshot.folder).get(record.fingerprint, Note()) == note:
                return no_update
            write_note(snapshot.folder, record.fingerprint, note)
        except StorageError as error:
            return str(error)
        return f"Saved in {NOTES}"

    app.clientside_callback(
        ClientsideFunction("network", "mark"),
        Output("stage-marked", "data"),
        Input("drawing", "hoverData"),
        prevent_initial_call=True,
    )


def _retraining(finals: Sequence[Retrained], study: Sequence[Retrained]) -> list[Component]:
    """Return a panel of retraining results of a network and its references; empty without any."""
    if not finals:
        return []
    table = parts.table(retrained_head(finals), retrained_rows(finals, study))
    sentences = html.Ul([html.Li(lead) for lead in margin_sentences(finals)])
    return [parts.panel("Retraining", table, sentences, mb="md", id="finals")]


def _classes(images: ImagesRecord | None) -> list[Component]:
    """Return a table of class names in output order; empty if an early study lacks them."""
    if images is None:
        return []
    rows = [[i, name] for i, name in enumerate(images.class_names)]
    table = parts.table(("Output", "Class"), rows, text_columns=2)
    return [parts.panel("Classes", table, mt="md", id="classes")]


def chosen(snapshot: Snapshot, fields: Fields) -> TrialRecord | None:
    """Return the selected network, by default the recommended one; None for an unknown trial."""
    trial = View.parse(fields).trial
    if trial is None:
        trial = _answered(snapshot).trial
    return next((r for r in snapshot.records if r.trial == trial), None)


def _answered(snapshot: Snapshot) -> TrialRecord:
    """Return the answer for the first budget, or the front's knee if no trial answers it."""
    findings = snapshot.findings
    for found in answers(findings, snapshot.questions[:1]).values():
        if isinstance(found, Answer) and found.record.trial != UNTRIED:
            return found.record
    return knee_of(findings.within if complete(findings.within) else findings.records)


def choices(record: TrialRecord) -> dict[str, Any]:
    """Return a network's options, or a reference's alpha and resolution."""
    architecture = record.architecture
    return {
        "alpha": architecture.alpha,
        "resolution": architecture.resolution.plain,
        **record.params,
    }


def training(record: TrialRecord) -> dict[str, Any]:
    """Return facts about a network's training."""
    facts: dict[str, Any] = {"state": record.state.word, "origin": record.origin}
    if record.error is not None:
        facts["message"] = record.error
    if record.evaluation is not None:
        evaluation = record.evaluation
        facts |= {
            record.score.noun: f"{evaluation.accuracy:.4f}",
            "validation loss": f"{evaluation.validation_loss:.4f} nats",
            "seconds": f"{evaluation.seconds:.1f}",
            "seed": evaluation.seed,
            "image size": f"{evaluation.pixels} px",
            "device": evaluation.device,
            **flat_recipe(evaluation.recipe),
            **{f"{name} version": text for name, text in evaluation.versions.items()},
            **_dead_units(evaluation.dead),
        }
    if record.predicted is not None:
        facts[f"predicted {record.score.noun}"] = f"{record.predicted:.4f}"
    if int8 := int8_text(record):
        facts["accuracy as int8"] = int8
    if record.promotion is not None:
        facts[f"{record.score.noun}, longer training"] = f"{record.promotion.accuracy:.4f}"
        for key, value in flat_recipe(record.promotion.recipe).items():
            if facts.get(key) != value:
                facts[f"{key}, longer training"] = value
    facts["fingerprint"] = record.fingerprint
    if record.started is not None:
        facts["started"] = f"{record.started:%Y-%m-%d %H:%M:%S} UTC"
    return facts


def _dead_units(dead: DeadUnits | None) -> dict[str, str]:
    """Return the shares of units that contribute nothing; empty if the study does not have them."""
    if dead is None:
        return {}
    shares = {"dead depthwise kernels": dead.kernels, "silent channels": dead.channels}
    return {name: f"{100 * share:.1f} %" for name, share in shares.items() if share is not None}


def flat_recipe(recipe: Mapping[str, Any]) -> dict[str, Any]:
    """Return a recipe as one flat dictionary, without settings of an unused supernet."""
    flat: dict[str, Any] = {}
    for key, value in recipe.items():
        if isinstance(value, Mapping):
            if recipe.get("evaluator") == key:
                flat |= {f"{key} {name}": each for name, each in flat_recipe(value).items()}
        elif value is not None:
            flat[key] = value
    return flat


def _neighbours(snapshot: Snapshot, record: TrialRecord, fields: Fields) -> list[Any]:
    """Return links to the next smaller and larger networks on the front."""
    front = front_of(snapshot.findings.within)
    smaller = [r for r in front if r.cost < record.cost]
    larger = [r for r in front if r.cost > record.cost]
    ends = [("Smaller cost", smaller[-1:]), ("Larger cost", larger[:1])]
    return [
        dcc.Link(
            f"{word} on the front: {r.label}",
            href=f"network{query({**fields, 'trial': r.trial})}",
        )
        for word, found in ends
        for r in found
    ]


def _downloads(snapshot: Snapshot, record: TrialRecord) -> Any:
    command = f"mbsearch export {snapshot.location} --trial {record.trial}"
    command += f" -o {record.slug}"
    return dmc.Group(
        [
            dmc.Button("Download YAML", id="take-yaml", size="sm"),
            dmc.Button("Export (ZIP)", id="take-all", size="sm", variant="default"),
            dmc.MultiSelect(
                id="export-formats",
                data=list(FORMATS),
                value=list(DEFAULT_FORMATS),
                size="xs",
                **parts.aria(label="Formats of the export"),
            ),
            dmc.Text(id="export-status", size="sm", **parts.aria(live="polite")),
            html.Div(
                [
                    dmc.Code(command, id="command", className="command", tabIndex=0),
                    dcc.Clipboard(target_id="command", title="Copy the command", className="copy"),
                ],
                className="row",
            ),
            dcc.Store(id="export-job"),
            dcc.Interval(id="export-tick", interval=500, disabled=True),
        ],
        mb="md",
        mt="xs",
    )


def _facts(facts: Mapping[str, Any]) -> Any:
    return parts.table(
        ("Name", "Value"), [[name, option_text(value)] for name, value in facts.items()]
    )


def _layer_table(record: TrialRecord) -> Any:
    head = ("Layer", "Kind", "In (C, H, W)", "Out", "Mult-Adds", "Params", "Memory (bytes)")
    rows: Sequence[Sequence[Any]] = [
        [
            row.name,
            row.kind,
            " x ".join(map(str, row.in_shape)),
            " x ".join(map(str, row.out_shape)),
            *(f"{n:,}" for n in (row.mult_adds, row.params, row.activation_bytes)),
        ]
        for row in layer_costs(record.architecture)
    ]
    return html.Div(parts.table(head, rows, text_columns=2), id="layers")


def _explanation(record: TrialRecord) -> list[Any]:
    """Return each block's cost as a table and in words, as ``mbsearch explain`` prints it."""
    explanation = explain(record.architecture)
    found: list[Any] = [
        dmc.Text(explanation.summary),
        dmc.Text(f"{CONVENTION} {SYMBOLS}", size="sm", c="dimmed"),
    ]
    for block in explanation.blocks:
        found += [
            dmc.Text(block.title, fw=500, mt="md"),
            parts.table(HEAD, block.rows()),
            dmc.Text(block.words, size="sm"),
        ]
    return found


def _in_words(record: TrialRecord) -> str:
    architecture = record.architecture
    stages = ", ".join(
        f"{stage.repeats} {stage.block} of {architecture.scale(stage.channels)} channels"
        for stage in architecture.stages
    )
    return f"Network of {architecture.resolution} pixels: {stages}"
