"""``mbsearch retrain``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.markup import escape
from rich.table import Table

from mbsearch.cli.terminal import Json, StudyFolder, cost, err, out, print_table
from mbsearch.errors import SpecError, StorageError

if TYPE_CHECKING:
    from mbsearch.records import TrialRecord
    from mbsearch.space.architecture import Architecture
    from mbsearch.space.settings import Settings
    from mbsearch.training.verdict import Retrained


def retrain(
    results: StudyFolder = None,
    trial: Annotated[
        list[int] | None, typer.Option(help="This network of the study; may be repeated.")
    ] = None,
    top: Annotated[int | None, typer.Option(min=1, help="The K best candidates.")] = None,
    front: Annotated[bool, typer.Option("--front", help="The candidates of the front.")] = False,
    max_mult_adds: Annotated[
        list[str] | None,
        typer.Option(help="The network to use within this budget, as 100M; may be repeated."),
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
    seeds: Annotated[int | None, typer.Option(min=1, help="Trainings a network; 3.")] = None,
    epochs: Annotated[int | None, typer.Option(min=1, help="Length of each; 20.")] = None,
    scale: Annotated[
        float | None,
        typer.Option(help="Pixels trained on, as a share of the resolution; the proxy's."),
    ] = None,
    jobs: Annotated[
        int | None,
        typer.Option(min=1, help="Trainings at a time; one a core by default, four on a GPU."),
    ] = None,
    device: Annotated[
        str | None, typer.Option(help="cpu, cuda or mps; the best by default.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Train networks for long on train and validation images, and ask the test images.

    The knee by default. Beside each candidate stand a MobileNet V1 and V2 of its cost. What the
    recipe is stands in the space's `retrain:`. Killed, the same command goes on from the last
    epoch. Results go to retrain.json and retrain.csv in the study's folder, beside those of other
    candidates that were retrained by the same recipe.

    Example: mbsearch retrain results/v2 --max-mult-adds 20M --max-mult-adds 50M
    """
    from mbsearch.latency_model import kept_measure
    from mbsearch.search.storage import RESULTS, read_study, results_folder
    from mbsearch.space.document import parse_document
    from mbsearch.space.space import read_space
    from mbsearch.training.entrants import entrants
    from mbsearch.training.final import Start
    from mbsearch.training.retrain import retrain_study

    if weights is not None and len(network or []) != 1:
        raise SpecError(f"--weights: expected one --network with it, got {len(network or [])}")
    folder = results_folder(results or RESULTS)
    store = read_study(folder)
    study, records = store.settings(), store.records()
    if not records:
        raise StorageError(f"{folder}: expected a study with trials, got one without")
    space = read_space(parse_document(study["space_yaml"], "space.yaml"))
    given = [_read(name, records[0].architecture.num_classes) for name in network or []]
    picked = _chosen(records, trial or [], top, max_mult_adds or [], front=front, any_=bool(given))
    metric, meter = space.settings.metric, kept_measure(study)
    chosen = entrants(picked, given, metric=metric, measure=meter)
    start = None
    if weights is not None:
        start = Start(given[0].fingerprint, weights, weights_eps)
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
        start=start,
        say=lambda line: err.print(escape(line), highlight=False),
        on_end=lambda name, seed, accuracy: err.print(
            f"{escape(name)}, seed {seed}: test accuracy {accuracy:.4f}", highlight=False
        ),
    )
    if as_json:
        print((folder / "retrain.json").read_text(encoding="utf-8"), end="")  # noqa: T201
        return
    _print(found)
    err.print(escape(f"written to {folder / 'retrain.json'}"), highlight=False, soft_wrap=True)


def _chosen(
    records: list[TrialRecord],
    trials: list[int],
    top: int | None,
    budgets: list[str],
    *,
    front: bool,
    any_: bool,
) -> list[TrialRecord]:
    """The records that the options name; the knee where nothing else is chosen either."""
    from mbsearch import results as found
    from mbsearch.records import shown
    from mbsearch.space.settings import Limits

    limits = [Limits(mult_adds=cost("--max-mult-adds", each, "mult_adds")) for each in budgets]
    candidates = [r for r in shown(records) if not r.is_baseline]
    chosen = [found.by_trial(records, number) for number in trials]
    searched = [r for r in records if not r.is_baseline]
    chosen += [found.best_within(searched, limit) for limit in limits]
    if top is not None:
        chosen += sorted(candidates, key=lambda r: (-r.likely, r.cost))[:top]
    if front:
        chosen += [r for r in found.front(records) if not r.is_baseline]
    if chosen or any_:
        return chosen
    if top is not None or front:
        raise StorageError("--top, --front: expected a candidate, got MobileNets only")
    return [found.knee(records)]


def _read(name: str, classes: int) -> Architecture:
    """An architecture from a file or of the references, for the study's classes."""
    from mbsearch.space.architecture import Architecture
    from mbsearch.space.catalog import load

    loaded = load(name)
    if not isinstance(loaded, Architecture):
        raise SpecError(f"--network {name}: expected an architecture, got a search space")
    return loaded.replace(num_classes=classes)


def _changed(settings: Settings, changes: dict[str, float | None]) -> Settings:
    """The settings with another recipe, where options give one."""
    from pydantic import ValidationError

    from mbsearch.space.document import explain
    from mbsearch.space.settings import Retrain

    given = {key: value for key, value in changes.items() if value is not None}
    try:
        recipe = Retrain.model_validate(settings.retrain.model_dump() | given)
    except ValidationError as error:
        raise SpecError(f"retrain: {explain(error)}") from None
    return settings.model_copy(update={"retrain": recipe})


def _print(found: list[Retrained]) -> None:
    from mbsearch.training.verdict import leads
    from mbsearch.units import millions

    table = Table(title="Test accuracy after retraining")
    for column in ("network", "test", "spread", "seeds", "proxy", "Mult-Adds", "params"):
        table.add_column(column, justify="left" if column == "network" else "right", no_wrap=True)
    distinct = {each.entrant.architecture.fingerprint: each for each in reversed(found)}
    for each in sorted(distinct.values(), key=lambda r: -r.mean):
        proxy = each.entrant.proxy_accuracy
        table.add_row(
            escape(each.entrant.name),
            f"{each.mean:.4f}",
            "" if each.spread is None else f"{each.spread:.4f}",
            str(len(each.seeds)),
            "" if proxy is None else f"{proxy:.3f}",
            millions(each.costs["mult_adds"]),
            millions(each.costs["params"]),
        )
    print_table(table)
    for lead in leads(found):
        out.print(escape(lead.sentence()), highlight=False, soft_wrap=True)
