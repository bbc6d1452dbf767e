"""``mbsearch status``, and the summary at the end of a run."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.markup import escape
from rich.table import Table

from mbsearch.cli.terminal import Budgets, Json, Results, Storage, out, parse_budgets, print_table

if TYPE_CHECKING:
    from mbsearch.analysis.findings import Findings
    from mbsearch.config.budgets import Budget
    from mbsearch.study.identity import Identity


def status(
    results: Results = None,
    budget: Budgets = None,
    at: Annotated[
        str | None, typer.Option(help="Same as --budget with a single bound.", show_default=False)
    ] = None,
    storage: Storage = None,
    as_json: Json = False,
) -> None:
    """Show the front of a study and its answer to each budget; also during a run.

    Example: mbsearch status results/v2 --budget 100M
    """
    from mbsearch.analysis.findings import findings_of
    from mbsearch.study.opening import RESULTS, files_of, read_study, results_folder
    from mbsearch.study.records import metric_of
    from mbsearch.study.retrained_file import read_retrained

    study, folder = read_study(results, storage), files_of(results, storage)
    findings = findings_of(study.records(), study.settings(), read_retrained(folder))
    budgets = parse_budgets(budget, at, metric_of(findings.records))
    where = study.name if storage else str(results_folder(results or RESULTS))
    print_status(where, findings, budgets, as_json)
    if not as_json:
        print_audit_summary(folder, study.settings().get("stamp"))


def print_audit_summary(folder: Path, stamp: Identity | None) -> None:
    """Print the proxy's rank agreement, if an audit has measured it."""
    from mbsearch.study.audit_file import read_audit

    audit = read_audit(folder, stamp)
    if audit is not None:
        out.print(f"audit: {audit.sentence()}", highlight=False, soft_wrap=True)


def print_status(where: str, findings: Findings, budgets: Sequence[Budget], as_json: bool) -> None:
    """Print the front, the answer for each budget, and the time saved by pruning.

    `budgets` are by default the study's. As JSON, print the answers to `budgets`, or the front
    without any.
    """
    from mbsearch.analysis.answer import answer_row, answer_text
    from mbsearch.analysis.answer_selection import answers
    from mbsearch.analysis.front import front_of, hypervolumes, knee_of
    from mbsearch.analysis.racing_savings import savings
    from mbsearch.analysis.tables import front_rows
    from mbsearch.cost.metrics import columns, find_metric, quantity
    from mbsearch.study.records import State, complete

    records, within = findings.records, findings.within
    if as_json:
        rows = [answer_row(each, b) for b, each in answers(findings, budgets).items()]
        shown = (rows if len(rows) > 1 else rows[0]) if rows else front_rows(within)
        # rich colours JSON if FORCE_COLOR is set.
        print(json.dumps(shown, indent=2))  # noqa: T201
        return
    states = {s: sum(r.state is s for r in records) for s in State}
    counts = ", ".join(f"{n} {state}" for state, n in states.items() if n)
    out.print(f"[bold]{escape(where)}[/]: {counts or 'no trials yet'}")
    for record in records:
        if record.state is State.FAILED and record.error:
            out.print(f"  trial {record.trial} failed: {escape(record.error)}", soft_wrap=True)
    if not complete(within):
        return
    promoted = [r for r in within if r.promotion is not None]
    fidelity = "a longer training" if promoted else "the proxy"
    table = Table(title=f"Pareto front (validation accuracy of {fidelity})")
    knee = knee_of(within)
    metric = knee.metric
    costs = columns(metric, "mult_adds", "params")
    titles = [find_metric(each).column for each in costs]
    for column in ("trial", "origin", "accuracy", *titles, "alpha", "px"):
        table.add_column(column, justify="left" if column == "origin" else "right", no_wrap=True)
    for r in front_of(within):
        noise = "" if r.accuracy_noise is None else f" ± {r.accuracy_noise:.3f}"
        table.add_row(
            str(r.trial),
            (r.label if r.is_baseline else r.origin) + ", knee" * (r.trial == knee.trial),
            f"{r.accuracy:.3f}{noise}",
            *(quantity(each, r.costs[each]) for each in costs),
            f"{r.architecture.alpha:g}",
            str(r.architecture.resolution),
            style="yellow" if r.is_baseline else "",
        )
    print_table(table)
    for each in answers(findings, budgets or findings.default_budgets).values():
        out.print(answer_text(each), highlight=False, soft_wrap=True)
    if promoted:
        out.print(
            f"{len(promoted)} networks were promoted to a longer training; they form the front",
            highlight=False,
        )
    saved = savings(records)
    if saved.share is not None:
        out.print(
            f"racing pruned {saved.pruned} of {saved.trials} trials and saved "
            f"{saved.share:.0%} of their training ({saved.seconds_saved:,.0f} s)",
            highlight=False,
        )
    volumes = hypervolumes(within)
    out.print(
        f"hypervolume {volumes.all:.4f} with baselines, {volumes.search:.4f} without, "
        f"{volumes.baselines:.4f} of the baselines alone (over log10 {find_metric(metric).noun}, "
        f"reference point: accuracy 0 at {quantity(metric, volumes.reference_point[1])})",
        highlight=False,
        soft_wrap=True,
    )
