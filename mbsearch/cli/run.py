"""``mbsearch run``."""

from __future__ import annotations

import math
import shlex
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.markup import escape

from mbsearch.cli.status import print_json, print_status
from mbsearch.cli.terminal import (
    AllStudies,
    Data,
    Device,
    Evaluator,
    Json,
    MinImages,
    SkipDamaged,
    Storage,
    StudyName,
    Weights,
    cost,
    err,
    parse_budget,
    require_one_of,
    with_evaluator,
    with_min_images,
)
from mbsearch.display.console_log import print_line
from mbsearch.errors import SpecError, did_you_mean

if TYPE_CHECKING:
    from mbsearch.config.budgets import Limits
    from mbsearch.config.settings import Settings
    from mbsearch.config.specification import SearchSpecification
    from mbsearch.study.records import TrialRecord
    from mbsearch.study_run import RunResult

_DEFAULT_TRIALS = 50
_MOST_REFINED = 0.9
_MINUTES = {"": 1.0, "m": 1.0, "min": 1.0, "s": 1 / 60, "h": 60.0}


def run(
    space: Annotated[
        str | None,
        typer.Option(
            help="YAML file, or name of a packaged space. By default photos if weights are "
            "inherited, else v2.",
            show_default=False,
        ),
    ] = None,
    trials: Annotated[
        int | None,
        typer.Option(
            min=1,
            help="Networks to train in all, without the references. By default 50, or no limit "
            "with --minutes.",
            show_default=False,
        ),
    ] = None,
    minutes: Annotated[
        float | None,
        typer.Option(help="Time limit of the run in minutes; the same command resumes."),
    ] = None,
    data: Data = None,
    table: Annotated[
        Path | None,
        typer.Option(help="CSV or JSON file of accuracies to look up instead of training."),
    ] = None,
    weights: Weights = None,
    name: StudyName = None,
    results: AllStudies = Path("results"),
    storage: Storage = None,
    jobs: Annotated[
        int | None,
        typer.Option(
            min=1,
            max=4096,
            help="Trainings at a time. By default one a core, four on a GPU, or the cluster's "
            "slots.",
        ),
    ] = None,
    ray: Annotated[
        str | None,
        typer.Option(help="Address of a Ray cluster that trains: auto or HOST:6379."),
    ] = None,
    gpus_per_trial: Annotated[
        float, typer.Option(min=0, help="With --ray: share of a GPU for each training.")
    ] = 0.0,
    sampler: Annotated[
        str, typer.Option(help="cost-aware, tpe, nsga2, gp, random, or grid for all networks.")
    ] = "cost-aware",
    seeds: Annotated[
        int, typer.Option(min=1, help="With --sampler grid: trainings of each network.")
    ] = 1,
    budget: Annotated[
        list[str] | None,
        typer.Option(
            help="Budget to find the best network for: 20M is an upper bound on the study's cost, "
            "mult_adds=20M,params=500k on two costs. May be repeated."
        ),
    ] = None,
    limit: Annotated[
        list[str] | None,
        typer.Option(
            help="Limit on the costs of all networks, as mult_adds=100M or latency=5ms. "
            "May be repeated."
        ),
    ] = None,
    board: Annotated[
        str | None,
        typer.Option(
            help="Microcontroller whose RAM and flash are limits of the int8 network: stm32h743, "
            "stm32f746, stm32l4r5, nano33ble, rp2040, esp32s3 or max78000.",
            show_default=False,
        ),
    ] = None,
    objective: Annotated[
        str | None,
        typer.Option(
            help="Cost of the Pareto front: mult_adds, params, peak_activation_bytes, flash_bytes, "
            "ram_bytes or latency. By default the space's."
        ),
    ] = None,
    metric: Annotated[
        str | None,
        typer.Option(
            help="Score to maximise: accuracy, balanced_accuracy or f1_macro. By default the "
            "space's, else accuracy.",
            show_default=False,
        ),
    ] = None,
    latency_from: Annotated[
        Path | None,
        typer.Option(
            help="Predict latency for a device: its table of times or its model, of mbsearch "
            "latency --from. By default this machine is measured.",
            show_default=False,
        ),
    ] = None,
    seed: Annotated[
        int, typer.Option(min=0, help="Seed of the search, the split and the trainings.")
    ] = 0,
    device: Device = None,
    racing: Annotated[
        bool, typer.Option(help="Prune trials that smaller networks outperform.")
    ] = True,
    evaluator: Evaluator = None,
    refine: Annotated[
        float | None,
        typer.Option(
            min=0,
            max=_MOST_REFINED,
            help="Share of the study's training that promotion may take, a longer screening of the "
            "best networks. By default the space's, or 0.25 if a budget has no finals.",
            show_default=False,
        ),
    ] = None,
    finals: Annotated[
        str | None,
        typer.Option(
            help="Time for finals, trainings by the full recipe that decide the answers, as 15m or "
            "900s; 0 for none. By default 15 minutes with pretrained weights, and else as long as "
            "the candidates' trainings, at most 15 minutes.",
            show_default=False,
        ),
    ] = None,
    export: Annotated[
        bool,
        typer.Option(
            help="Export each answer into the study's folder: weights, ONNX, int8, model card."
        ),
    ] = True,
    skip_damaged: SkipDamaged = False,
    min_images: MinImages = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Print the plan of the run, and exit.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Search a space for the best network within a budget; the same command resumes.

    Examples:

    mbsearch run --data photos/ --budget 20M

    mbsearch run --space v2.yaml --data photos/ --weights none --budget 10M --budget 20M
    """
    from mbsearch.config.boards import find_board
    from mbsearch.config.specification import load_specification
    from mbsearch.display.progress_display import ProgressDisplay
    from mbsearch.evaluation import default_space
    from mbsearch.study.opening import study_folder
    from mbsearch.study.writable import require_writable
    from mbsearch.study_run import UnwrittenResultsError
    from mbsearch.study_run import run as run_study

    if table is not None:
        _require_absent(
            {"data": data, "device": device, "evaluator": evaluator}
            | {"refine": refine, "weights": weights},
            "no --table with it, which trains nothing",
        )
    if sampler == "grid":
        _require_absent(
            {"trials": trials, "refine": refine, "finals": finals},
            "no --sampler grid with it, which trains every network by one recipe",
        )
    if not dry_run:  # before the images are read
        require_writable(results, "--results names another folder")
    if space is None:
        with ProgressDisplay(err) as display:
            space = (
                "v2"
                if table is not None
                else default_space(data, weights, min_images or 1, display.update)
            )
    limits = [*(find_board(board).limits if board else []), *(limit or [])]
    overrides = _Overrides(
        evaluator,
        weights,
        limits,
        metric,
        objective,
        budget or [],
        finals,
        racing,
        refine,
        min_images,
    )
    loaded = overrides.applied(load_specification(space))
    folder = study_folder(loaded.name if name is None else name, results)
    try:
        with ProgressDisplay(err) as display:
            result = run_study(
                loaded,
                trials=trials or _default_trials(minutes, sampler),
                folder=folder,
                storage=storage,
                data=data,
                table=table,
                latency_from=latency_from,
                minutes=minutes,
                jobs=jobs,
                ray=ray,
                gpus_per_trial=gpus_per_trial,
                sampler=sampler,
                seeds=seeds,
                seed=seed,
                device=device,
                skip_damaged=skip_damaged,
                dry_run=dry_run,
                on_progress=display.update,
            )
    except UnwrittenResultsError as error:
        _print_findings(error.result, storage, as_json=as_json, export=False)
        raise
    except KeyboardInterrupt:
        _print_interrupted(folder, storage)
        raise
    if not dry_run:
        _print_unused(result, loaded.settings)
        _print_findings(result, storage, as_json=as_json, export=export and table is None)
        _require_one_completed(result.records)


@dataclass(frozen=True, slots=True)
class _Overrides:
    """Options that override settings of the space; None and empty lists keep the setting."""

    evaluator: str | None
    weights: str | None
    limits: list[str]
    metric: str | None
    objective: str | None
    budgets: list[str]
    finals: str | None
    racing: bool
    refine: float | None
    min_images: int | None

    def applied(self, space: SearchSpecification) -> SearchSpecification:
        """Return the specification with its settings overridden.

        Raises:
            SpecError: an option is not valid; it is named.
        """
        from mbsearch.config.finals_settings import MOST_MINUTES
        from mbsearch.config.racing_settings import Racing
        from mbsearch.config.scores import Score
        from mbsearch.cost.metrics import COSTS

        space = with_min_images(with_evaluator(space, self.evaluator), self.min_images)
        changes: dict[str, object] = {}
        if self.weights is not None:
            changes["weights"] = self.weights
        if self.limits:
            changes["limits"] = _limits(space.settings, self.limits)
        score, cost_name = space.settings.objectives
        if self.objective is not None:
            require_one_of("--objective", self.objective, tuple(COSTS))
        if self.metric is not None:
            require_one_of("--metric", self.metric, tuple(Score))
        changes["objectives"] = (self.metric or score, self.objective or cost_name)
        if self.finals is not None:
            minutes = _minutes("--finals", self.finals)
            if minutes > MOST_MINUTES:
                most = f"{MOST_MINUTES // 60:,}h"
                raise SpecError(f"--finals: expected at most {most}, got {self.finals}")
            changes["finals"] = space.settings.finals.model_copy(update={"minutes": minutes})
        if not self.racing:
            changes["racing"] = Racing(rungs=())
        if self.refine is not None:
            share = {"share": self.refine}
            changes["promotion"] = space.settings.promotion.model_copy(update=share)
        space = space.with_settings(changes)
        if not self.budgets:
            return space
        metric = space.settings.metric  # of the objective that an option may have replaced
        budgets = (parse_budget("--budget", text, metric) for text in self.budgets)
        return space.with_settings({"budgets": tuple(dict.fromkeys(budgets))})


def _default_trials(minutes: float | None, sampler: str) -> int | None:
    """Return the number of trials if none is given; None for a grid and for a time limit."""
    return _DEFAULT_TRIALS if minutes is None and sampler != "grid" else None


def _require_absent(options: Mapping[str, object], expected: str) -> None:
    """Raise an error for an option that was given together with one that excludes it."""
    for option, value in options.items():
        if value is not None:
            raise SpecError(f"--{option}: expected {expected}, got one")


def _limits(settings: Settings, given: list[str]) -> Limits:
    """Return the space's limits with those of ``--limit`` added."""
    from mbsearch.config.budgets import Limits
    from mbsearch.cost.metrics import COSTS

    limits = settings.limits.model_dump(mode="json")
    changed: dict[str, str] = {}
    for text in given:
        metric, _, value = text.partition("=")
        if metric not in limits:
            raise SpecError(
                f"--limit {text}: expected one of {', '.join(limits)} before '=', got {metric!r}"
                + did_you_mean(metric, limits)
            )
        if metric in changed:
            raise SpecError(f"--limit {text}: expected each cost once, got {metric} twice")
        cost(f"--limit {metric}", value, COSTS[metric].key)
        changed[metric] = value
    return Limits.model_validate(limits | changed)


def _minutes(option: str, text: str) -> float:
    """Return the minutes for a duration such as ``15m``, ``900s`` or ``1h``.

    Raises:
        SpecError: it is not a duration; the option is named.
    """
    from mbsearch.cost.units import scaled

    minutes = scaled(text, _MINUTES)
    if minutes is None:
        raise SpecError(f"{option}: expected a time, as 15m, 900s, 1h or 0, got {text!r}")
    return minutes


def _print_interrupted(folder: Path, storage: str | None) -> None:
    """Print how to resume and inspect the interrupted study."""
    status = f"; look with: mbsearch status {folder}" if folder.exists() else ""
    if status and storage:
        status += " and the same --storage"
    print_line(
        err, f"interrupted; completed trials are saved. Run the same command to resume{status}"
    )


def _print_unused(result: RunResult, settings: Settings) -> None:
    """Print why a run trained fewer networks than it could have."""
    if result.exhausted:
        print_line(err, "every network of the space within the limits has been tried")
    if result.unpromoted is None:
        return
    needed = math.ceil(100 * result.unpromoted) / 100
    further = "further " if any(r.promotion is not None for r in result.records) else ""
    option = f" (--refine {needed:g} allows it)" if needed <= _MOST_REFINED else ""
    print_line(
        err,
        f"no {further}promotion (longer screening of the front and its MobileNets): it would take "
        f"{needed:.0%} of the study's training, and {settings.promotion.allowed:.0%} is allowed"
        f"{option}",
    )


def _require_one_completed(records: Sequence[TrialRecord]) -> None:
    """Exit with code 1 and the first error if every trial failed."""
    from mbsearch.study.records import State

    if records and all(record.state is State.FAILED for record in records):
        first = records[0]
        err.print(
            f"[bold red]error:[/] every trial failed; the first, trial {first.trial}: "
            f"{escape(str(first.error))}",
            soft_wrap=True,
            highlight=False,
        )
        raise typer.Exit(1)


def _print_findings(result: RunResult, storage: str | None, *, as_json: bool, export: bool) -> None:
    """Export each answer into the study's folder, and print the front and the answers."""
    from mbsearch.analysis.findings import findings_of
    from mbsearch.study.artifacts import read_artifacts
    from mbsearch.study.opening import location, read_study
    from mbsearch.study.records import complete
    from mbsearch.study.retrained_file import read_retrained

    folder = result.folder
    store = read_study(folder, storage)
    findings = findings_of(store.records(), store.settings(), read_retrained(folder))
    if export and complete(result.records):
        from mbsearch.export.answer_folder import write_answers

        words = [word.replace(storage, "URL") if storage else word for word in sys.argv[1:]]
        write_answers(store, folder, findings, command=shlex.join(["mbsearch", *words]))
    if as_json:
        print_json(findings, ())
        return
    measured = read_artifacts(folder, result.identity)
    print_status(location(folder, storage), findings, (), measured)
