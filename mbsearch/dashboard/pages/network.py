"""Page of one network: drawing, costs, training and downloads."""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from typing import Any

import dash_mantine_components as dmc
from dash import Dash, Input, Output, State, dcc, html, no_update
from dash.development.base_component import Component

from mbsearch.analysis.answer import Answer
from mbsearch.analysis.answer_selection import answers
from mbsearch.analysis.front import front_of, knee_of
from mbsearch.cost import layer_costs
from mbsearch.dashboard import parts
from mbsearch.dashboard.downloads import zipped_export
from mbsearch.dashboard.parts import Fields
from mbsearch.dashboard.studies import Library, Snapshot
from mbsearch.dashboard.view import View, query
from mbsearch.errors import ExportError
from mbsearch.figures.network import curve_figure, drawing, layer_bars
from mbsearch.figures.retrained import RETRAINED_HEAD, margin_sentences, retrained_rows
from mbsearch.study.records import UNTRIED, TrialRecord, complete
from mbsearch.study.retrained_file import Retrained

TITLE, ADDRESS, ORDER = "Network", "network", 2


def layout(snapshot: Snapshot, fields: Fields, _library: Library) -> Component:
    """Return the components of the page, by default for the answer for the first budget."""
    record = chosen(snapshot, fields)
    if record is None:
        trial = View.parse(fields).trial
        return parts.notice("No such network", f"Expected a trial of {snapshot.name}, got {trial}.")
    architecture = record.architecture
    known = parts.costs(record), parts.latencies(record, snapshot.measured)
    return html.Div(
        [
            dmc.Group(
                [
                    dmc.Title(record.label, order=1, size="h2"),
                    dmc.Badge(str(record.state), variant="light"),
                    dmc.Text(f"Accuracy {parts.accuracy(record)}", fw=600),
                    dmc.Text(", ".join(filter(None, known)), c="dimmed"),
                ],
                gap="md",
                mb="xs",
            ),
            html.Nav(
                _neighbours(snapshot, record, fields), className="row", **parts.aria(label="Front")
            ),
            _downloads(snapshot, record),
            parts.panel(
                "Drawn to scale",
                dmc.Text(
                    "Width is channels, height is the side of the map.", size="sm", c="dimmed"
                ),
                html.Div(
                    parts.graph(
                        "drawing", drawing(architecture), _in_words(record), "380px", tools=False
                    ),
                    className="wide",
                ),
                mb="md",
            ),
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
                            "Validation accuracy over epochs",
                            "460px",
                        ),
                    ),
                ],
                cols={"base": 1, "md": 2},
                mb="md",
            ),
            dmc.SimpleGrid(
                [
                    parts.panel("Choices", _facts(choices(record))),
                    parts.panel("Training", _facts(training(record))),
                ],
                cols={"base": 1, "md": 2},
                mb="md",
            ),
            *_retraining(snapshot.measured.retrained_beside(record.fingerprint)),
            parts.panel("Layers", _layer_table(record)),
            dcc.Download(id="download"),
        ]
    )


def redraw_key(snapshot: Snapshot, fields: Fields) -> Any:
    """Return facts about the network that may change."""
    record = chosen(snapshot, fields)
    if record is None:
        return None
    finals = snapshot.measured.retrained_beside(record.fingerprint)
    expected = None if record.predicted is None else f"{record.predicted:.4f}"
    return [
        record.trial,
        str(record.state),
        parts.accuracy(record),
        expected,
        retrained_rows(finals),
    ]


def register(app: Dash, library: Library) -> None:
    """Register the callbacks for downloads."""

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
        Output("download", "data", allow_duplicate=True),
        Output("take-problem", "children"),
        Input("take-all", "n_clicks"),
        State("view", "data"),
        running=[(Output("take-all", "loading"), True, False)],
        prevent_initial_call=True,
    )
    def export(_clicks: int, fields: Fields) -> Any:
        snapshot = library.snapshot(fields.get("study"))
        record = chosen(snapshot, fields)
        assert record is not None, "only the page of a network has this button"
        try:
            with library.exporting:
                archive = zipped_export(library.arguments(snapshot.name), record.trial)
        except ExportError as error:
            return no_update, str(error)
        content = base64.b64encode(archive).decode()
        name = f"{record.slug}.zip"
        return {"content": content, "filename": name, "base64": True}, ""


def _retraining(finals: Sequence[Retrained]) -> list[Component]:
    """Return a network's retraining results with its references of equal cost, if any."""
    if not finals:
        return []
    table = parts.table(RETRAINED_HEAD, retrained_rows(finals))
    sentences = html.Ul([html.Li(lead) for lead in margin_sentences(finals)])
    return [parts.panel("Retraining", table, sentences, mb="md", id="finals")]


def chosen(snapshot: Snapshot, fields: Fields) -> TrialRecord | None:
    """Return the selected network, or by default the answer; None for an unknown trial."""
    trial = View.parse(fields).trial
    if trial is None:
        trial = _answered(snapshot).trial
    return next((r for r in snapshot.records if r.trial == trial), None)


def _answered(snapshot: Snapshot) -> TrialRecord:
    """Return the answer for the first budget, or the knee if the answer is not a trial."""
    findings = snapshot.findings
    for found in answers(findings, snapshot.questions[:1]).values():
        if isinstance(found, Answer) and found.record.trial != UNTRIED:
            return found.record
    return knee_of(findings.within if complete(findings.within) else findings.records)


def choices(record: TrialRecord) -> dict[str, Any]:
    """Return a network's options, or a reference's alpha and resolution."""
    architecture = record.architecture
    return {"alpha": architecture.alpha, "resolution": architecture.resolution, **record.params}


def training(record: TrialRecord) -> dict[str, Any]:
    """Return facts about a network's training."""
    facts: dict[str, Any] = {"state": record.state, "origin": record.origin}
    if record.error is not None:
        facts["message"] = record.error
    if record.evaluation is not None:
        evaluation = record.evaluation
        facts |= {
            "accuracy": f"{evaluation.accuracy:.4f}",
            "validation loss": f"{evaluation.validation_loss:.4f} nats",
            "seconds": f"{evaluation.seconds:.1f}",
            "seed": evaluation.seed,
            "image side": f"{evaluation.pixels} px",
            "device": evaluation.device,
            **flat_recipe(evaluation.recipe),
            **{f"{name} version": text for name, text in evaluation.versions.items()},
        }
    if record.predicted is not None:
        facts["predicted accuracy"] = f"{record.predicted:.4f}"
    if record.promotion is not None:
        facts["accuracy, longer training"] = f"{record.promotion.accuracy:.4f}"
        for key, value in flat_recipe(record.promotion.recipe).items():
            if facts.get(key) != value:
                facts[f"{key}, longer training"] = value
    facts["fingerprint"] = record.fingerprint
    if record.started is not None:
        facts["started"] = f"{record.started:%Y-%m-%d %H:%M:%S}"
    return facts


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
            href=f"/network{query({**fields, 'trial': r.trial})}",
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
            dmc.Button("Every format (ZIP)", id="take-all", size="sm", variant="default"),
            dmc.Code(command, id="command", className="command"),
            dcc.Clipboard(target_id="command", title="Copy the command", className="copy"),
            dmc.Text(id="take-problem", c="red", size="sm", **parts.aria(live="polite")),
        ],
        mb="md",
        mt="xs",
    )


def _facts(facts: Mapping[str, Any]) -> Any:
    return parts.table(("", ""), [[name, shown(value)] for name, value in facts.items()])


def shown(value: Any) -> str:
    """Return a value as text for a table."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    return f"{value:g}" if isinstance(value, float) else str(value)


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


def _in_words(record: TrialRecord) -> str:
    architecture = record.architecture
    stages = ", ".join(
        f"{stage.repeats} {stage.block} of {architecture.scale(stage.channels)} channels"
        for stage in architecture.stages
    )
    return f"Network of {architecture.resolution} pixels: {stages}"
