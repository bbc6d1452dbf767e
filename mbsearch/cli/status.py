"""``mbsearch status``, and the summary at the end of a run."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.markup import escape
from rich.table import Table

from mbsearch.cli.terminal import (
    Budgets,
    Json,
    Results,
    Storage,
    err,
    out,
    parse_budgets,
    plain_table,
    print_table,
    print_text,
)
from mbsearch.display.console_log import print_line
from mbsearch.errors import SpecError
from mbsearch.study.identity import IDENTITY

if TYPE_CHECKING:
    from mbsearch.analysis.answer_card import AnswerCard
    from mbsearch.analysis.findings import Findings
    from mbsearch.config.budgets import Budget
    from mbsearch.study.artifacts import Artifacts


def status(
    results: Results = None,
    budget: Budgets = None,
    at: Annotated[
        str | None, typer.Option(help="Same as --budget with a single bound.", show_default=False)
    ] = None,
    storage: Storage = None,
    repair: Annotated[
        bool,
        typer.Option(
            "--repair",
            help="Copy what is whole of a damaged study to FOLDER-repaired, and show that.",
        ),
    ] = False,
    as_json: Json = False,
) -> None:
    """Show the front of a study and its answer to each budget; also during a run.

    The last lines are the answer to the first budget and commands that may follow. A narrow
    terminal shows fewer columns of a table; a pipe gets all of them, in lines of any length.

    Example: mbsearch status results/v2 --budget 100M
    """
    from mbsearch.analysis.findings import findings_of
    from mbsearch.study.artifacts import read_artifacts
    from mbsearch.study.opening import files_of, location, read_study
    from mbsearch.study.records import metric_of
    from mbsearch.study.retrained_file import read_retrained

    if repair:
        results = _repaired(results, storage)
    study, folder = read_study(results, storage), files_of(results, storage)
    findings = findings_of(study.records(), study.settings(), read_retrained(folder))
    budgets = parse_budgets(budget, at, metric_of(findings.records))
    if as_json:
        print_json(findings, budgets)
        return
    measured = read_artifacts(folder, study.settings().get(IDENTITY))
    print_status(location(results, storage), findings, budgets, measured)


def _repaired(results: Path | None, storage: str | None) -> Path:
    """Copy the undamaged parts of a study, and return the folder of the copy."""
    from mbsearch.study.opening import RESULTS, results_folder
    from mbsearch.study.repair import repaired_folder

    if storage is not None:
        raise SpecError("--repair: expected a study in a folder, got --storage")
    folder = results_folder(results or RESULTS)
    target = repaired_folder(folder)
    print_line(err, f"what is whole of {folder} is copied to {target}")
    return target


def print_json(findings: Findings, budgets: Sequence[Budget]) -> None:
    """Print as JSON the answers to `budgets`, or the front if `budgets` is empty."""
    from mbsearch.analysis.answer import answer_row
    from mbsearch.analysis.answer_selection import answers
    from mbsearch.analysis.tables import front_rows

    rows = [answer_row(each, b) for b, each in answers(findings, budgets).items()]
    shown = (rows if len(rows) > 1 else rows[0]) if rows else front_rows(findings.within)
    # rich colours JSON if FORCE_COLOR is set.
    print(json.dumps(shown, indent=2))  # noqa: T201


def print_status(
    where: str, findings: Findings, budgets: Sequence[Budget], measured: Artifacts
) -> None:
    """Print the front, the training saved by pruning, the audit, answers and next commands.

    The last lines are the answer to the first of `budgets`, by default the study's, and commands
    for the study `where`.
    """
    from mbsearch.analysis.answer import Answer, answer_text
    from mbsearch.analysis.answer_card import answer_card
    from mbsearch.study.records import State, complete

    records = findings.records
    states = {s: sum(r.state is s for r in records) for s in State}
    counts = ", ".join(f"{n} {state}" for state, n in states.items() if n)
    print_text(f"{where}: {counts or 'no trials yet'}")
    for problem in measured.problems:
        print_text(problem)
    for record in records:
        if record.state is State.FAILED and record.error:
            print_text(f"  trial {record.trial} failed: {record.error}")
    card = answer_card(findings, budgets, measured, where)
    if complete(findings.within):
        _print_front(findings)
        _print_search(findings)
    if measured.audit is not None:
        print_text(f"audit: {measured.audit.sentence()}")
    if card is None:
        return
    if len(card.rows) > 1:
        print_table(*_budget_table(card))
    if isinstance(card.found, Answer) and card.badges:
        print_text(f"{card.found.name}: {'; '.join(badge.text for badge in card.badges)}")
    out.print()
    print_text(f"{answer_text(card.found)}.", style="bold")
    print_commands(card.commands)


def print_commands(commands: Sequence[str]) -> None:
    """Print commands to copy: one a line, never wrapped."""
    for i, command in enumerate(commands):
        line = ("next: " if i == 0 else "      ") + command
        out.print(line, highlight=False, markup=False, soft_wrap=True)


def _print_front(findings: Findings) -> None:
    from mbsearch.analysis.front import front_of, knee_of
    from mbsearch.analysis.int8_loss import int8_text
    from mbsearch.cost.metrics import columns, find_metric, quantity

    within = findings.within
    promoted = any(r.promotion is not None for r in within)
    fidelity = "a longer training" if promoted else "the proxy"
    balance = "" if findings.images is None else f"; {findings.images.balance('validation')}"
    knee = knee_of(within)
    table = plain_table(f"Pareto front (validation {knee.score.noun} of {fidelity}{balance})")
    costs = columns(knee.metric, "mult_adds", "params")
    titles = [find_metric(each).column for each in costs]
    front = front_of(within)
    int8 = ["as int8"] if any(map(int8_text, front)) else []
    for column in ("trial", "origin", knee.score.noun, *int8, *titles, "alpha", "px"):
        table.add_column(column, justify="left" if column == "origin" else "right", no_wrap=True)
    for r in front:
        noise = "" if r.accuracy_noise is None else f" ± {r.accuracy_noise:.3f}"
        table.add_row(
            str(r.trial),
            (r.label if r.is_baseline else r.origin) + ", knee" * (r.trial == knee.trial),
            f"{r.accuracy:.3f}{noise}",
            *(int8_text(r) for _ in int8),
            *(quantity(each, r.costs[each]) for each in costs),
            f"{r.architecture.alpha:g}",
            str(r.architecture.resolution),
            style="yellow" if r.is_baseline else "",
        )
    print_table(table, ("px", "alpha", *reversed(titles[1:]), *int8))


def _print_search(findings: Findings) -> None:
    from mbsearch.analysis.racing_savings import savings

    promoted = [r for r in findings.within if r.promotion is not None]
    if promoted:
        print_text(
            f"{len(promoted)} networks were promoted to a longer training; they form the front"
        )
    saved = savings(findings.records)
    if saved.share is not None:
        print_text(
            f"racing pruned {saved.pruned} of {saved.trials} trials and saved "
            f"{saved.share:.0%} of their training ({saved.seconds_saved:,.0f} s)"
        )


def _budget_table(card: AnswerCard) -> tuple[Table, tuple[str, ...]]:
    """Return a table of the answers to all budgets, and the columns to drop first if narrow."""
    table = plain_table("The answer to each budget, with 95 % intervals")
    for column in card.head:
        table.add_column(column, justify="left", no_wrap=True)
    for _, cells in card.rows:
        table.add_row(*map(escape, cells))
    _, _, cost, accuracy, against, difference = card.head
    return table, (against, difference, cost, accuracy)
