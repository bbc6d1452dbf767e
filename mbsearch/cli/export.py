"""``mbsearch export``."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.markup import escape

from mbsearch.cli.terminal import Budgets, Results, Storage, cost, err, parse_budgets
from mbsearch.errors import SpecError

if TYPE_CHECKING:
    from mbsearch.analysis.findings import Findings
    from mbsearch.config.budgets import Budget
    from mbsearch.study.records import TrialRecord

_YAML = (".yaml", ".yml")
_BOUNDS = {
    "--max-mult-adds": "mult_adds",
    "--max-params": "params",
    "--max-memory": "peak_activation_bytes",
    "--max-latency": "latency",
}


def export(
    results: Results = None,
    budget: Budgets = None,
    max_mult_adds: Annotated[
        str | None, typer.Option(help="The same as --budget mult_adds=..., as 100M.")
    ] = None,
    max_params: Annotated[
        str | None, typer.Option(help="A bound on parameters, as 2M; such bounds are one budget.")
    ] = None,
    max_memory: Annotated[
        str | None, typer.Option(help="A bound on the bytes of activations, as 500k.")
    ] = None,
    max_latency: Annotated[
        str | None, typer.Option(help="A bound on the predicted latency, as 5ms.")
    ] = None,
    trial: Annotated[int | None, typer.Option(help="The network of this trial.")] = None,
    cheapest_tied: Annotated[
        bool,
        typer.Option("--cheapest-tied", help="Of those as accurate within 1 point, the cheapest."),
    ] = False,
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", help="Folder for all formats, or a .yaml; or stdout."),
    ] = None,
    formats: Annotated[
        str | None,
        typer.Option(
            help="Of yaml, pytorch, torch-export, onnx, timm (all by default), executorch, litert.",
            show_default=False,
        ),
    ] = None,
    int8: Annotated[
        bool, typer.Option("--int8", help="Quantise the ONNX file too, and score both.")
    ] = False,
    storage: Storage = None,
) -> None:
    """Write a network of a study, as YAML or as a folder of every format.

    By default it is the answer to the study's first budget. Every file is read back, and its
    outputs compared with the network's, before the command ends.

    Example: mbsearch export --budget 100M -o winner
    """
    from mbsearch.analysis.answer_selection import cheapest_tied as cheapest_tied_with
    from mbsearch.analysis.findings import findings_of
    from mbsearch.study.atomic_files import write_atomically
    from mbsearch.study.opening import RESULTS, files_of, read_study, results_folder
    from mbsearch.study.records import metric_of
    from mbsearch.study.retrained_file import read_retrained

    is_folder = output is not None and output.suffix not in _YAML
    if (formats is not None or int8) and not is_folder:
        option = "--int8" if formats is None else "--formats"
        raise SpecError(f"{option}: expected --output FOLDER with it, got none")
    bounds = zip(_BOUNDS, (max_mult_adds, max_params, max_memory, max_latency), strict=True)
    given = {option: text for option, text in bounds if text is not None}
    options = [*given, *["--budget"] * len(budget or [])]
    if trial is not None and options:
        raise SpecError(f"expected --trial or {options[0]}, got both")
    if len(budget or []) + bool(given) > 1:
        raise SpecError(f"{options[0]}: expected one budget to export, got another one beside it")
    alias = _of_bounds(given)  # a mistake in it is better said before
    store = read_study(results, storage)
    records = store.records()
    retrained = read_retrained(files_of(results, storage))
    findings = findings_of(records, store.settings(), retrained)
    asked = alias or parse_budgets(budget, None, metric_of(records))
    record = _choose(findings, trial, asked)
    if cheapest_tied:
        record = cheapest_tied_with(findings, record, asked[0] if asked else None)
    if output is None:
        sys.stdout.write(record.architecture.to_yaml())
        return
    if not is_folder:
        write_atomically(output, record.architecture.to_yaml())
        _say(record, output)
        return

    from mbsearch.export.formats import DEFAULT_FORMATS
    from mbsearch.export.study_export import export_record

    chosen = DEFAULT_FORMATS if formats is None else tuple(formats.replace(" ", "").split(","))
    # The card goes where the model goes: a database's address may hold a password, and a path on
    # this machine is nobody's.
    hidden = {storage: "URL"} if storage else {}
    if output.is_absolute():
        hidden[str(output)] = output.name
    words = ["mbsearch", *sys.argv[1:]]
    for text, instead in hidden.items():
        words = [word.replace(text, instead) for word in words]
    command = shlex.join(words)
    home = results_folder(results or RESULTS) if storage is None else None
    exported = export_record(store, record, output, chosen, command=command, home=home, int8=int8)
    for each in exported.files:
        said = each.note if each.error is None else f"read back, relative error {each.error:.1g}"
        err.print(escape(f"{each.file}: {said}"), highlight=False, soft_wrap=True)
    _say(record, output)


def _of_bounds(given: Mapping[str, str]) -> list[Budget]:
    """The budget of the options that bound one cost each; none without any."""
    from mbsearch.config.budgets import Budget
    from mbsearch.cost.metrics import COSTS

    for option, text in given.items():
        cost(option, text, COSTS[_BOUNDS[option]].key)
    bounds = {_BOUNDS[option]: text for option, text in given.items()}
    return [Budget.model_validate(bounds)] if bounds else []


def _choose(findings: Findings, trial: int | None, asked: Sequence[Budget]) -> TrialRecord:
    """The record that the options ask for; by default the answer to the main budget."""
    from mbsearch.analysis.answer_selection import answer
    from mbsearch.errors import StorageError
    from mbsearch.study.records import find_trial

    if trial is not None:
        return find_trial(findings.records, trial)
    budget = asked[0] if asked else findings.main_budget
    if budget is None:
        raise StorageError("expected at least one complete trial, got none yet")
    return answer(findings, budget).record


def _say(record: TrialRecord, output: Path) -> None:
    err.print(f"{escape(record.label)} written to {escape(str(output))}", highlight=False)
