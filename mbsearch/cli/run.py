"""``mbsearch run``."""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.markup import escape

from mbsearch.cli.status import print_status, print_verdict
from mbsearch.cli.terminal import (
    Evaluator,
    Json,
    Storage,
    cost,
    err,
    require_one_of,
    with_evaluator,
)
from mbsearch.errors import SpecError, did_you_mean

if TYPE_CHECKING:
    from mbsearch.space.space import SearchSpace

_DEFAULT_TRIALS, _UNLIMITED_TRIALS = 50, 10**9
_MOST_REFINED = 0.9


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
    storage: Storage = None,
    jobs: Annotated[
        int | None,
        typer.Option(
            min=1, help="Trainings at once; one a core, four on a GPU, or what the cluster takes."
        ),
    ] = None,
    ray: Annotated[
        str | None,
        typer.Option(help="Train on the Ray cluster at this address, as auto or HOST:6379."),
    ] = None,
    gpus_per_trial: Annotated[
        float, typer.Option(min=0, help="With --ray: share of a GPU that a training occupies.")
    ] = 0.0,
    sampler: Annotated[
        str, typer.Option(help="cost-aware, tpe, nsga2, gp or random.")
    ] = "cost-aware",
    limit: Annotated[
        list[str] | None,
        typer.Option(help="Hard limit, as mult_adds=100M or latency=5ms; may be repeated."),
    ] = None,
    objective: Annotated[
        str | None,
        typer.Option(
            help="Cost to weigh accuracy against: mult_adds, params, peak_activation_bytes or "
            "latency; the space's by default."
        ),
    ] = None,
    seed: Annotated[int, typer.Option(min=0, help="Seed of search, split and trainings.")] = 0,
    device: Annotated[
        str | None, typer.Option(help="cpu, cuda or mps; the best by default.")
    ] = None,
    racing: Annotated[
        bool, typer.Option(help="Stop trials that cheaper ones have left behind.")
    ] = True,
    evaluator: Evaluator = None,
    refine: Annotated[
        float | None,
        typer.Option(
            min=0,
            max=_MOST_REFINED,
            help="Share of the work for a longer training of the best; the space's by default.",
            show_default=False,
        ),
    ] = None,
    as_json: Json = False,
) -> None:
    """Search a space; the same command again resumes, or adds trials to a finished study.

    Example: mbsearch run --space v2.yaml --trials 200 --limit mult_adds=100M
    """
    from mbsearch.analysis.answer import findings_of
    from mbsearch.measured import read_retrained
    from mbsearch.progress import RunDisplay
    from mbsearch.search.storage import study_folder
    from mbsearch.space.catalog import load_space
    from mbsearch.space.settings import Racing
    from mbsearch.study import run as run_study

    of_trainings = {"data": data, "device": device, "evaluator": evaluator, "refine": refine}
    for option, value in of_trainings.items():
        if table is not None and value is not None:
            raise SpecError(
                f"--{option}: expected no --table with it, which trains nothing, got one"
            )
    loaded = with_evaluator(load_space(space), evaluator)
    loaded = _with_objective(_with_limits(loaded, limit or []), objective)
    if not racing:
        loaded = loaded.with_settings({"racing": Racing(rungs=())})
    if refine is not None:
        promotion = loaded.settings.promotion.model_copy(update={"share": refine})
        loaded = loaded.with_settings({"promotion": promotion})
    folder = study_folder(loaded.name if name is None else name, results)
    with RunDisplay(err) as display:
        try:
            result = run_study(
                loaded,
                trials=trials or (_DEFAULT_TRIALS if minutes is None else _UNLIMITED_TRIALS),
                folder=folder,
                storage=storage,
                data=data,
                table=table,
                minutes=minutes,
                jobs=jobs,
                ray=ray,
                gpus_per_trial=gpus_per_trial,
                sampler=sampler,
                seed=seed,
                device=device,
                on_start=display.start,
                on_supernet=display.supernet,
                say=display.say,
                on_progress=display.update,
            )
        except KeyboardInterrupt:
            display.stop()
            look = f"; look with: mbsearch status {escape(str(folder))}" if folder.exists() else ""
            err.print(
                "stopped; nothing that was finished is lost. Resume with the same command"
                + look
                + (" and the same --storage" if look and storage else "")
            )
            raise
    if result.exhausted:
        err.print("no other network of the space that keeps the limits was found")
    if result.unpromoted is not None:
        share, needed = loaded.settings.promotion.share, math.ceil(100 * result.unpromoted) / 100
        further = "further " if any(r.promotion is not None for r in result.records) else ""
        err.print(
            f"no {further}network was promoted to a longer training: the front and its MobileNets "
            f"need {needed:.0%} of the work, their share is {share:.0%}"
            + (
                f" (--trials 1 --refine {needed:g} pays for them)"
                if needed <= _MOST_REFINED
                else ""
            ),
            soft_wrap=True,
        )
    findings = findings_of(result.records, {"stamp": result.stamp}, read_retrained(result.folder))
    print_status(str(result.folder), findings, (), as_json)
    if not as_json:
        print_verdict(result.folder, result.stamp)


def _with_limits(space: SearchSpace, given: list[str]) -> SearchSpace:
    from mbsearch.space.settings import Limits, cost_of

    limits = space.settings.limits.model_dump(mode="json")
    for text in given:
        metric, _, value = text.partition("=")
        if metric not in limits:
            raise SpecError(
                f"--limit {text}: expected one of {', '.join(limits)} before '=', got {metric!r}"
                + did_you_mean(metric, limits)
            )
        cost(f"--limit {metric}", value, cost_of(metric))
        limits[metric] = value
    return space.with_settings({"limits": Limits.model_validate(limits)})


def _with_objective(space: SearchSpace, objective: str | None) -> SearchSpace:
    from mbsearch.space.settings import COSTS

    if objective is None:
        return space
    require_one_of("--objective", objective, COSTS)
    return space.with_settings({"objectives": ("accuracy", objective)})
