"""``mbsearch run``."""

from __future__ import annotations

import math
import re
import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.markup import escape

from mbsearch.cli.status import print_status, print_verdict
from mbsearch.cli.terminal import (
    Device,
    Evaluator,
    Json,
    SkipDamaged,
    Storage,
    Weights,
    cost,
    err,
    parse_budget,
    require_one_of,
    with_evaluator,
)
from mbsearch.errors import SpecError, did_you_mean

if TYPE_CHECKING:
    from mbsearch.config.specification import SearchSpecification

_DEFAULT_TRIALS = 50
_MOST_REFINED = 0.9


def run(
    space: Annotated[
        str | None,
        typer.Option(
            help="YAML file, or the name of a shipped space: v2, or photos where weights are "
            "inherited, by default.",
            show_default=False,
        ),
    ] = None,
    trials: Annotated[
        int | None,
        typer.Option(
            min=1,
            help="Networks to train in all; references come on top. 50; with --minutes no limit.",
            show_default=False,
        ),
    ] = None,
    minutes: Annotated[
        float | None, typer.Option(help="Stop after so long; the same command resumes.")
    ] = None,
    data: Annotated[
        str | None,
        typer.Option(help="Image folder or data set name; without it, embedded Fashion-MNIST."),
    ] = None,
    table: Annotated[
        Path | None,
        typer.Option(help="Look accuracies up in this CSV or JSON file instead of training."),
    ] = None,
    weights: Weights = None,
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
    budget: Annotated[
        list[str] | None,
        typer.Option(
            help="Find the best network within this budget: 20M bounds the study's cost, "
            "mult_adds=20M,params=500k both. May be repeated: each is a question of its own."
        ),
    ] = None,
    limit: Annotated[
        list[str] | None,
        typer.Option(
            help="Hard limit on everything that is trained, as mult_adds=100M or latency=5ms; "
            "may be repeated."
        ),
    ] = None,
    objective: Annotated[
        str | None,
        typer.Option(
            help="Cost to weigh accuracy against: mult_adds, params, peak_activation_bytes or "
            "latency; the space's by default."
        ),
    ] = None,
    seed: Annotated[int, typer.Option(min=0, help="Seed of search, split and trainings.")] = 0,
    device: Device = None,
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
    finals: Annotated[
        str | None,
        typer.Option(
            help="Time for trainings by the full recipe, which decide the answers, as 15m or 900s; "
            "0 for none. As long as the search, at most 15 minutes, by default.",
            show_default=False,
        ),
    ] = None,
    export: Annotated[
        bool,
        typer.Option(
            help="Write each answer into a folder of the study: weights, ONNX, int8, model card."
        ),
    ] = True,
    skip_damaged: SkipDamaged = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Say what was read and what is planned, and stop.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Search a space for the best network within a budget; the same command resumes.

    Examples:

    mbsearch run --data photos/ --budget 20M

    mbsearch run --space v2.yaml --data photos/ --weights none --budget 10M --budget 20M
    """
    from mbsearch.analysis.answer import findings_of
    from mbsearch.config.settings import Racing
    from mbsearch.config.specification import load_specification
    from mbsearch.evaluation import default_space
    from mbsearch.progress import RunDisplay
    from mbsearch.run import UNLIMITED_TRIALS
    from mbsearch.run import run as run_study
    from mbsearch.study.artifacts import read_retrained
    from mbsearch.study.records import complete
    from mbsearch.study.store import read_study, study_folder

    of_trainings = {
        "data": data,
        "device": device,
        "evaluator": evaluator,
        "refine": refine,
        "weights": weights,
    }
    for option, value in of_trainings.items():
        if table is not None and value is not None:
            raise SpecError(
                f"--{option}: expected no --table with it, which trains nothing, got one"
            )
    if space is None:
        with RunDisplay(err) as display:
            space = "v2" if table is not None else default_space(data, weights, display.images)
    loaded = with_evaluator(load_specification(space), evaluator)
    if weights is not None:
        loaded = loaded.with_settings({"weights": weights})
    loaded = _with_objective(_with_limits(loaded, limit or []), objective)
    loaded = _with_budgets(loaded, budget or [])
    if finals is not None:
        minutes_of_finals = _minutes("--finals", finals)
        changed = loaded.settings.finals.model_copy(update={"minutes": minutes_of_finals})
        loaded = loaded.with_settings({"finals": changed})
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
                trials=trials or (_DEFAULT_TRIALS if minutes is None else UNLIMITED_TRIALS),
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
                skip_damaged=skip_damaged,
                dry_run=dry_run,
                on_images=display.images,
                on_start=display.start,
                on_preparation=display.preparation,
                say=display.say,
                on_progress=display.update,
            )
        except KeyboardInterrupt:
            display.stop()
            look = f"; look with: mbsearch status {escape(str(folder))}" if folder.exists() else ""
            err.print(
                "interrupted; completed trials are saved. Run the same command to resume"
                + look
                + (" and the same --storage" if look and storage else "")
            )
            raise
    if dry_run:
        return
    if result.exhausted:
        err.print("no other network of the space that keeps the limits was found")
    if result.unpromoted is not None:
        share, needed = loaded.settings.promotion.share, math.ceil(100 * result.unpromoted) / 100
        further = "further " if any(r.promotion is not None for r in result.records) else ""
        err.print(
            f"no {further}network was promoted to a longer training: the front and its MobileNets "
            f"need {needed:.0%} of the work, their share is {share:.0%}"
            + (f" (--refine {needed:g} pays for them)" if needed <= _MOST_REFINED else ""),
            soft_wrap=True,
        )
    study = result.folder if storage is None else Path(folder.name)
    store = read_study(study, storage)
    findings = findings_of(store.records(), store.settings(), read_retrained(result.folder))
    print_status(str(result.folder), findings, (), as_json)
    if not as_json:
        print_verdict(result.folder, result.stamp)
    if export and table is None and complete(result.records):
        from mbsearch.export.answer_folder import write_answers

        words = [word.replace(storage, "URL") if storage else word for word in sys.argv[1:]]
        write_answers(
            store,
            result.folder,
            findings,
            command=shlex.join(["mbsearch", *words]),
            say=lambda line: err.print(escape(line), highlight=False, soft_wrap=True),
        )


def _with_limits(space: SearchSpecification, given: list[str]) -> SearchSpecification:
    from mbsearch.config.settings import Limits, cost_of

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


def _with_budgets(space: SearchSpecification, given: list[str]) -> SearchSpecification:
    """A space whose budgets are those of the options, where there are any."""
    if not given:
        return space
    metric = space.settings.metric
    budgets = tuple(parse_budget("--budget", text, metric) for text in given)
    return space.with_settings({"budgets": tuple(dict.fromkeys(budgets))})


def _minutes(option: str, text: str) -> float:
    """A time as people write it, in minutes: ``15m``, ``900s``, ``1h``; a plain number is minutes.

    Raises:
        SpecError: it is none; the option is named.
    """
    match = re.fullmatch(r"([0-9]+(?:\.[0-9]+)?)\s*(s|m|min|h)?", text.strip())
    if match is None:
        raise SpecError(f"{option}: expected a time, as 15m, 900s or 0, got {text!r}")
    return float(match[1]) * {"s": 1 / 60, "h": 60.0}.get(match[2] or "m", 1.0)


def _with_objective(space: SearchSpecification, objective: str | None) -> SearchSpecification:
    from mbsearch.config.settings import COSTS

    if objective is None:
        return space
    require_one_of("--objective", objective, COSTS)
    return space.with_settings({"objectives": ("accuracy", objective)})
