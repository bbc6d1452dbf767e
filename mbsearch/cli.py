"""The command line: parses, calls one function, prints.

Heavy libraries are imported inside the commands, so that ``--help`` and ``count`` start at once.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from mbsearch.errors import MbsearchError, SpecError

if TYPE_CHECKING:
    from mbsearch.records import TrialRecord
    from mbsearch.space.architecture import Architecture
    from mbsearch.space.space import SearchSpace

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    help="Choose a small image network by evidence: accuracy against Mult-Adds, with MobileNet "
    "V1 and V2 trained by the same proxy beside it.\n\n"
    "Examples:\n\n"
    "  mbsearch run --space v2.yaml --trials 200\n\n"
    "  mbsearch status\n\n"
    "  mbsearch export --max-mult-adds 100M\n\n"
    "  mbsearch count mobilenet_v2 --alpha 0.5 --resolution 160",
)
out = Console()
err = Console(stderr=True)

Json = Annotated[bool, typer.Option("--json", help="Print JSON for scripts.")]
Results = Annotated[Path, typer.Argument(help="Folder of a study, or of several: then the newest.")]
_INTERRUPTED = 130
_DEFAULT_TRIALS, _UNLIMITED_TRIALS = 50, 10**9


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line; a mistake of the user's is one line on stderr and exit code 2."""
    try:
        app(arguments)
    except MbsearchError as error:
        err.print(f"[bold red]error:[/] {escape(str(error))}", soft_wrap=True, highlight=False)
        sys.exit(2)
    except KeyboardInterrupt:
        sys.exit(_INTERRUPTED)
    except OSError as error:  # a full disk, a lost drive: whatever was told is already on it
        where = f"{error.filename}: " if error.filename else ""
        err.print(f"[bold red]error:[/] {escape(where)}{error.strerror or error}", soft_wrap=True)
        sys.exit(2)


@app.command()
def run(
    space: Annotated[str, typer.Option(help="YAML file, or the name of a shipped space.")],
    trials: Annotated[
        int | None,
        typer.Option(
            min=1,
            help="Networks to train; the baselines come on top. 50, or with --minutes no limit.",
            show_default=False,
        ),
    ] = None,
    minutes: Annotated[
        float | None, typer.Option(help="Stop after so long; the same command goes on.")
    ] = None,
    data: Annotated[
        str | None,
        typer.Option(help="Image folder or data set name; without it, embedded Fashion-MNIST."),
    ] = None,
    table: Annotated[
        Path | None,
        typer.Option(help="Look accuracies up in this CSV or JSON file instead of training."),
    ] = None,
    name: Annotated[
        str | None, typer.Option(help="Name of the study; the space's by default.")
    ] = None,
    results: Annotated[Path, typer.Option(help="Where studies live.")] = Path("results"),
    jobs: Annotated[
        int | None, typer.Option(min=1, help="Worker processes; one a core by default.")
    ] = None,
    sampler: Annotated[
        str, typer.Option(help="cost-aware, tpe, nsga2, gp or random.")
    ] = "cost-aware",
    limit: Annotated[
        list[str] | None,
        typer.Option(help="Hard limit, as mult_adds=100M or params=2M; may be repeated."),
    ] = None,
    seed: Annotated[int, typer.Option(min=0, help="Seed of search, split and trainings.")] = 0,
    device: Annotated[
        str | None, typer.Option(help="cpu, cuda or mps; the best by default.")
    ] = None,
    racing: Annotated[
        bool, typer.Option(help="Stop trials that cheaper ones have left behind.")
    ] = True,
    as_json: Json = False,
) -> None:
    """Search a space; the same command again resumes, or adds trials to a finished study.

    Example: mbsearch run --space v2.yaml --trials 200 --limit mult_adds=100M
    """
    from mbsearch.progress import RunDisplay
    from mbsearch.space.catalog import load_space
    from mbsearch.space.settings import Racing
    from mbsearch.study import run as run_study

    loaded = _with_limits(load_space(space), limit or [])
    if not racing:
        settings = loaded.settings.model_copy(update={"racing": Racing(rungs=())})
        loaded = loaded.with_settings(settings)
    folder = results / (name or loaded.name)
    with RunDisplay(err) as display:
        try:
            result = run_study(
                loaded,
                trials=trials or (_DEFAULT_TRIALS if minutes is None else _UNLIMITED_TRIALS),
                folder=folder,
                data=data,
                table=table,
                minutes=minutes,
                jobs=jobs,
                sampler=sampler,
                seed=seed,
                device=device,
                on_start=display.start,
                on_progress=display.update,
            )
        except KeyboardInterrupt:
            display.stop()
            err.print(
                f"stopped; nothing that was finished is lost. Resume with the same command; "
                f"look with: mbsearch status {escape(str(folder))}"
            )
            raise
    if result.exhausted:
        err.print("every network of the space that keeps the limits has been tried")
    _print_status(result.folder, result.records, None, as_json)


def _with_limits(space: SearchSpace, given: list[str]) -> SearchSpace:
    from mbsearch.errors import did_you_mean
    from mbsearch.space.settings import Limits

    limits = space.settings.limits.model_dump()
    for text in given:
        metric, _, value = text.partition("=")
        if metric not in limits:
            raise SpecError(
                f"--limit {text}: expected one of {', '.join(limits)} before '=', got {metric!r}"
                + did_you_mean(metric, limits)
            )
        limits[metric] = _quantity(f"--limit {metric}", value)
    settings = space.settings.model_copy(update={"limits": Limits.model_validate(limits)})
    return space.with_settings(settings)


def _quantity(option: str, text: str) -> int:
    from mbsearch.space.settings import parse_quantity

    try:
        return parse_quantity(text)
    except ValueError as error:
        raise SpecError(f"{option}: expected {error}, got {text!r}") from None


@app.command()
def status(
    results: Results = Path("results"),
    at: Annotated[str | None, typer.Option(help="Mult-Adds budget to answer for, as 100M.")] = None,
    as_json: Json = False,
) -> None:
    """Show the front of a study with MobileNet V1 and V2 on it; also while it runs.

    Example: mbsearch status results/v2 --at 100M
    """
    from mbsearch.search.storage import read_study, results_folder

    budget = None if at is None else _quantity("--at", at)
    _print_status(results_folder(results), read_study(results).records(), budget, as_json)


def _print_status(
    folder: Path, records: list[TrialRecord], budget: int | None, as_json: bool
) -> None:
    from mbsearch import results as found
    from mbsearch.records import State, complete
    from mbsearch.search.racing import savings

    if as_json:
        out.print_json(json.dumps(found.front_rows(records)))
        return
    states = {s: sum(r.state is s for r in records) for s in State}
    counts = ", ".join(f"{n} {state}" for state, n in states.items() if n)
    out.print(f"[bold]{escape(str(folder))}[/]: {counts or 'no trials yet'}")
    for record in records:
        if record.state is State.FAILED and record.error:
            out.print(f"  trial {record.trial} failed: {escape(record.error)}", soft_wrap=True)
    if not complete(records):
        return
    table = Table(title="Pareto front (validation accuracy of the proxy)")
    for column in ("trial", "origin", "accuracy", "±", "Mult-Adds", "params", "alpha", "px"):
        table.add_column(column, justify="left" if column == "origin" else "right")
    knee = found.knee(records)
    for r in found.front(records):
        noise = "" if r.accuracy_noise is None else f"{r.accuracy_noise:.3f}"
        table.add_row(
            str(r.trial),
            r.origin + (", knee" if r.trial == knee.trial else ""),
            f"{r.accuracy:.3f}",
            noise,
            found.millions(r.mult_adds),
            found.millions(r.costs["params"]),
            f"{r.architecture.alpha:g}",
            str(r.architecture.resolution),
            style="yellow" if r.is_baseline else "",
        )
    out.print(table)
    for each in [budget] if budget else found.natural_budgets(records):
        out.print(found.compare(records, each).sentence(), highlight=False, soft_wrap=True)
    saved = savings(records)
    if saved.stopped:
        share = saved.seconds_saved / (saved.seconds_saved + saved.seconds_spent)
        out.print(
            f"racing stopped {saved.stopped} of {saved.trials} trials and saved {share:.0%} of "
            f"their training ({saved.seconds_saved:,.0f} s)",
            highlight=False,
        )
    volumes = found.hypervolumes(records)
    out.print(
        f"hypervolume {volumes.all:.4f} with baselines, {volumes.search:.4f} without, "
        f"{volumes.baselines:.4f} of the baselines alone (over log10 Mult-Adds, reference point: "
        f"accuracy 0 at {found.millions(volumes.reference_point[1])})",
        highlight=False,
        soft_wrap=True,
    )


@app.command()
def export(
    results: Results = Path("results"),
    max_mult_adds: Annotated[
        str | None, typer.Option(help="The most accurate network within this budget, as 100M.")
    ] = None,
    trial: Annotated[int | None, typer.Option(help="The network of this trial.")] = None,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="File to write; stdout by default.")
    ] = None,
) -> None:
    """Write a network of a study as YAML, which count reads again; the knee by default.

    Example: mbsearch export --max-mult-adds 100M -o best.yaml
    """
    from mbsearch import results as found
    from mbsearch.report import write_whole
    from mbsearch.search.storage import read_study

    if trial is not None and max_mult_adds is not None:
        raise SpecError("expected --trial or --max-mult-adds, got both")
    records = read_study(results).records()
    if trial is not None:
        record = found.by_trial(records, trial)
    elif max_mult_adds is not None:
        budget = _quantity("--max-mult-adds", max_mult_adds)
        record = found.best_within(records, budget)
    else:
        record = found.knee(records)
    text = record.architecture.to_yaml()
    if output is None:
        sys.stdout.write(text)
        return
    write_whole(output, text)
    err.print(f"trial {record.trial} ({record.origin}) written to {escape(str(output))}")


@app.command()
def count(
    file: Annotated[str, typer.Argument(help="YAML file, shipped space, or reference network.")],
    alpha: Annotated[float | None, typer.Option(help="Width multiplier.")] = None,
    resolution: Annotated[int | None, typer.Option(help="Input side in pixels.")] = None,
    layers: Annotated[bool, typer.Option("--layers", help="One row a layer.")] = False,
    as_json: Json = False,
) -> None:
    """Count Mult-Adds, params and memory of a network exactly, or survey a space.

    Mult-Adds are multiply-accumulates of convolutions and linear layers for one image, as in the
    MobileNet papers: no bias, batch norm, activation or pooling.

    Example: mbsearch count mobilenet_v2 --alpha 0.5 --resolution 160 --layers
    """
    from mbsearch.space.architecture import Architecture
    from mbsearch.space.catalog import load

    loaded = load(file)
    if isinstance(loaded, Architecture):
        _count_architecture(loaded.replace(alpha=alpha, resolution=resolution), layers, as_json)
        return
    if alpha is not None or resolution is not None or layers:
        raise SpecError(
            f"{file}: expected an architecture for --alpha, --resolution and --layers, "
            "got a search space"
        )
    _count_space(loaded, as_json)


def _count_architecture(architecture: Architecture, layers: bool, as_json: bool) -> None:
    from mbsearch.cost import METRICS, layer_costs, measure

    totals = measure(architecture)
    rows = layer_costs(architecture) if layers else []
    if as_json:
        per_layer = {"layers": [row._asdict() for row in rows]} if layers else {}
        print(json.dumps({**totals, **per_layer}))  # noqa: T201 - rich would wrap long lines
        return
    title = f"{architecture.name}  alpha {architecture.alpha:g}  {architecture.resolution} px"
    out.print(f"[bold]{escape(title)}[/]", highlight=False)
    if layers:
        table = Table()
        for column in ("layer", "kind", "in (C, H, W)", "out", "Mult-Adds", "params", "bytes"):
            table.add_column(column, justify="left" if column in ("layer", "kind") else "right")
        for row in rows:
            shapes = ("x".join(map(str, s)) for s in (row.in_shape, row.out_shape))
            numbers = (row.mult_adds, row.params, row.activation_bytes)
            table.add_row(row.name, row.kind, *shapes, *(f"{n:,}" for n in numbers))
        out.print(table)
    for metric, label in METRICS.items():
        out.print(f"{label:34} {totals[metric]:>15,}", highlight=False)


def _count_space(space: SearchSpace, as_json: bool) -> None:
    from dataclasses import asdict

    from mbsearch.results import millions
    from mbsearch.survey import survey

    found = survey(space)
    if as_json:
        print(json.dumps({"name": space.name, **asdict(found)}))  # noqa: T201
        return
    basis = "all" if found.exact else f"{found.surveyed:,} drawn uniformly"
    out.print(f"[bold]{escape(space.name)}[/]: {found.encodings:,} networks", highlight=False)
    out.print(
        f"Mult-Adds: min {millions(found.min_mult_adds)}, median "
        f"{millions(found.median_mult_adds)}, max {millions(found.max_mult_adds)}",
        highlight=False,
    )
    out.print(
        f"within limits {found.feasible_share:.1%}, duplicates {found.duplicate_share:.1%} "
        f"({basis})",
        highlight=False,
    )
    for warning in found.warnings:
        err.print(f"[yellow]warning:[/] {escape(warning)}", soft_wrap=True, highlight=False)


@app.command()
def spaces(as_json: Json = False) -> None:
    """List the shipped spaces with their size and cost range, and the reference networks.

    Example: mbsearch spaces --json
    """
    from dataclasses import asdict

    from mbsearch.results import millions
    from mbsearch.space.catalog import load_space, reference_names, space_names
    from mbsearch.survey import survey

    found = {name: survey(load_space(name), sample_size=200) for name in space_names()}
    if as_json:
        print(json.dumps({name: asdict(each) for name, each in found.items()}))  # noqa: T201
        return
    table = Table(title="Shipped search spaces")
    for column in ("space", "networks", "min", "median", "max Mult-Adds"):
        table.add_column(column, justify="left" if column == "space" else "right")
    for name, each in found.items():
        costs = (each.min_mult_adds, each.median_mult_adds, each.max_mult_adds)
        table.add_row(f"{name}.yaml", f"{each.encodings:,}", *map(millions, costs))
    out.print(table)
    out.print("Reference networks: " + ", ".join(reference_names()), highlight=False)


@app.command()
def schema() -> None:
    """Print the JSON Schema of space and architecture files, for editors.

    Example: mbsearch schema > mbsearch.schema.json
    """
    from mbsearch.space.schema import json_schema

    print(json.dumps(json_schema(), indent=2))  # noqa: T201
