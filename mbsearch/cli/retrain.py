"""``mbsearch retrain``."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.markup import escape
from rich.table import Table

from mbsearch.cli.terminal import (
    Budgets,
    Device,
    Json,
    SkipDamaged,
    StudyFolder,
    TrainingJobs,
    err,
    out,
    parse_budget,
    parse_budgets,
    print_table,
)
from mbsearch.errors import SpecError, StorageError

if TYPE_CHECKING:
    from mbsearch.analysis.answer import Findings
    from mbsearch.config.settings import Budget, Settings
    from mbsearch.space.architecture import Architecture
    from mbsearch.study.artifacts import Retrained
    from mbsearch.study.records import TrialRecord


@dataclass
class Chosen:
    """Networks to retrain, and by fingerprint the references of the study beside each."""

    records: list[TrialRecord]
    references: dict[str, list[TrialRecord]] = field(default_factory=dict)

    def add(self, findings: Findings, budget: Budget) -> None:
        """Choose the answer to a budget, beside the strongest references of that budget.

        Where the answer is a reference, it stands beside the best network of the search.
        """
        from mbsearch.analysis.answer import answer

        found = answer(findings, budget)
        beside = [margin.other.record for margin in found.margins]
        record = found.record
        if found.searched is not None:
            beside.insert(0, record)
            record = found.searched.other.record
        self.records.append(record)
        self.references.setdefault(record.fingerprint, []).extend(beside)


def retrain(
    results: StudyFolder = None,
    trial: Annotated[
        list[int] | None, typer.Option(help="This network of the study; may be repeated.")
    ] = None,
    top: Annotated[int | None, typer.Option(min=1, help="The K best candidates.")] = None,
    front: Annotated[bool, typer.Option("--front", help="The candidates of the front.")] = False,
    budget: Budgets = None,
    max_mult_adds: Annotated[
        list[str] | None,
        typer.Option(help="The same as --budget mult_adds=..., as 100M; may be repeated."),
    ] = None,
    network: Annotated[
        list[str] | None, typer.Option(help="An architecture file; may be repeated.")
    ] = None,
    weights: Annotated[
        Path | None,
        typer.Option(
            help="Weights that the one --network starts from: ours, torchvision's, timm's."
        ),
    ] = None,
    weights_eps: Annotated[
        float, typer.Option(help="Of their batch norms; 0.001 for torchvision's V3.")
    ] = 1e-5,
    teacher: Annotated[
        bool, typer.Option(help="Learn from the study's teacher, where it has one.")
    ] = True,
    seeds: Annotated[int | None, typer.Option(min=1, help="Trainings a network; 3.")] = None,
    epochs: Annotated[int | None, typer.Option(min=1, help="Length of each; 20.")] = None,
    scale: Annotated[
        float | None,
        typer.Option(
            help="Pixels trained on, as a share of the resolution: 1, of the built-in images the "
            "proxy's.",
            show_default=False,
        ),
    ] = None,
    jobs: TrainingJobs = None,
    device: Device = None,
    skip_damaged: SkipDamaged = False,
    as_json: Json = False,
) -> None:
    """Train networks by the full recipe on train and validation images, and test them.

    By default the answers to the study's budgets. Beside each are trained the study's strongest
    references of that budget, or a MobileNet V1 and V2 of equal cost. The recipe is the space's
    `retrain:`. Interrupted, the same command resumes from the last epoch. Results are written to
    retrain.json and retrain.csv in the study's folder; networks and seeds of an earlier retraining
    by the same recipe stay.

    Example: mbsearch retrain results/v2 --budget 20M --budget 50M
    """
    from mbsearch.analysis.answer import answers, findings_of, said
    from mbsearch.config.settings import SCRATCH
    from mbsearch.config.specification import read_specification
    from mbsearch.latency.model import kept_measure
    from mbsearch.retraining.competitors import entrants
    from mbsearch.retraining.run import retrain_study
    from mbsearch.space.yaml_source import parse_document
    from mbsearch.study.artifacts import read_retrained
    from mbsearch.study.store import RESULTS, read_study, results_folder
    from mbsearch.training.long_training import WeightsFile

    if weights is not None and len(network or []) != 1:
        raise SpecError(f"--weights: expected one --network with it, got {len(network or [])}")
    folder = results_folder(results or RESULTS)
    store = read_study(folder)
    study, records = store.settings(), store.records()
    if not records:
        raise StorageError(f"{folder}: expected a study with trials, got one without")
    space = read_specification(parse_document(study["space_yaml"], "space.yaml"))
    given = [_read(name, records[0].architecture.num_classes) for name in network or []]
    metric, meter = space.settings.metric, kept_measure(study)
    budgets = parse_budgets(budget, None, metric)
    budgets += [parse_budget("--max-mult-adds", text, "mult_adds") for text in max_mult_adds or []]
    findings = findings_of(records, study, read_retrained(folder))
    if not (budgets or trial or given or front or top):
        main = [] if findings.main is None else [findings.main]
        budgets = list(findings.asked) or main
    picked = _chosen(findings, trial or [], top, budgets, front=front)
    chosen = entrants(picked.records, given, picked.references, metric=metric, measure=meter)
    start = None
    if weights is not None:
        start = WeightsFile(given[0].fingerprint, weights, weights_eps)
    if study["stamp"].get("weights") is None:
        space = space.with_settings({"weights": SCRATCH})
    settings = _changed(
        space.settings, {"seeds": seeds, "epochs": epochs, "resolution_scale": scale}
    )
    for name in dict.fromkeys(each.name for each in chosen):
        err.print(f"retraining {escape(name)}", highlight=False)
    found = retrain_study(
        folder,
        chosen,
        settings,
        data=study["stamp"]["data"],
        data_key=study["stamp"]["data_key"],
        split_seed=study["stamp"]["seed"],
        jobs=jobs,
        device=device,
        skip_damaged=skip_damaged,
        start=start,
        teacher=teacher,
        measure=meter,
        say=lambda line: err.print(escape(line), highlight=False),
        on_end=lambda name, seed, accuracy: err.print(
            f"{escape(name)}, seed {seed}: test accuracy {accuracy:.4f}", highlight=False
        ),
    )
    if as_json:
        print((folder / "retrain.json").read_text(encoding="utf-8"), end="")  # noqa: T201
        return
    _print(found)
    findings = findings_of(records, study, read_retrained(folder))
    for each in answers(findings, budgets).values():
        out.print(escape(said(each)), highlight=False, soft_wrap=True)
    err.print(escape(f"written to {folder / 'retrain.json'}"), highlight=False, soft_wrap=True)


def _chosen(
    findings: Findings,
    trials: Sequence[int],
    top: int | None,
    budgets: Sequence[Budget],
    *,
    front: bool,
) -> Chosen:
    """The networks that the options name, by default the study's answers."""
    from mbsearch.analysis import tables as found
    from mbsearch.study.records import shown

    chosen = Chosen([found.by_trial(findings.records, number) for number in trials])
    candidates = [r for r in shown(findings.within) if not r.is_baseline]
    if top is not None:
        chosen.records += sorted(candidates, key=lambda r: (-r.likely, r.cost))[:top]
    if front:
        chosen.records += [r for r in found.front(findings.within) if not r.is_baseline]
    if not chosen.records and (top is not None or front):
        raise StorageError("--top, --front: expected a candidate, got MobileNets only")
    for budget in budgets:
        chosen.add(findings, budget)
    return chosen


def _read(name: str, classes: int) -> Architecture:
    """An architecture from a file or of the references, for the study's classes."""
    from mbsearch.config.specification import load
    from mbsearch.space.architecture import Architecture

    loaded = load(name)
    if not isinstance(loaded, Architecture):
        raise SpecError(f"--network {name}: expected an architecture, got a search space")
    return loaded.replace(num_classes=classes)


def _changed(settings: Settings, changes: dict[str, float | None]) -> Settings:
    """The settings with another recipe, where options give one."""
    from pydantic import ValidationError

    from mbsearch.config.settings import Retrain
    from mbsearch.space.yaml_source import explain

    given = {key: value for key, value in changes.items() if value is not None}
    try:
        recipe = Retrain.model_validate(settings.retrain.model_dump() | given)
    except ValidationError as error:
        raise SpecError(f"retrain: {explain(error)}") from None
    return settings.model_copy(update={"retrain": recipe})


def _print(found: list[Retrained]) -> None:
    from mbsearch.analysis.retrained_margins import leads
    from mbsearch.cost.units import millions

    table = Table(title="Test accuracy after retraining")
    for column in ("network", "test", "spread", "seeds", "proxy", "Mult-Adds", "params"):
        table.add_column(column, justify="left" if column == "network" else "right", no_wrap=True)
    distinct = {each.fingerprint: each for each in reversed(found)}
    for each in sorted(distinct.values(), key=lambda r: -r.accuracy):
        proxy = each.proxy_accuracy
        table.add_row(
            escape(each.name),
            f"{each.accuracy:.4f}",
            "" if each.spread is None else f"{each.spread:.4f}",
            str(len(each.seeds)),
            "" if proxy is None else f"{proxy:.3f}",
            millions(each.costs["mult_adds"]),
            millions(each.costs["params"]),
        )
    print_table(table)
    for lead in leads(found):
        out.print(escape(lead.sentence()), highlight=False, soft_wrap=True)
