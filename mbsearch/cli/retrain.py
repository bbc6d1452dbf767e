"""``mbsearch retrain``."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.markup import escape
from rich.table import Table

from mbsearch.cli.interruption import resumable_trainings
from mbsearch.cli.terminal import (
    Budgets,
    Device,
    Json,
    SkipDamaged,
    StudyData,
    StudyFolder,
    TrainingJobs,
    err,
    out,
    parse_budget,
    parse_budgets,
    print_table,
)
from mbsearch.display.console_log import print_line
from mbsearch.errors import SpecError, StorageError
from mbsearch.study.identity import IDENTITY

if TYPE_CHECKING:
    from mbsearch.analysis.findings import Findings
    from mbsearch.config.settings import Settings
    from mbsearch.config.specification import SearchSpecification
    from mbsearch.cost import Measure
    from mbsearch.space.architecture import Architecture
    from mbsearch.study.identity import Identity
    from mbsearch.study.images_record import KnownImages
    from mbsearch.study.retrained_file import Retrained


def retrain(
    results: StudyFolder = None,
    trial: Annotated[
        list[int] | None, typer.Option(help="Network of this trial. May be repeated.")
    ] = None,
    top: Annotated[
        int | None, typer.Option(min=1, help="The K most accurate networks of the search.")
    ] = None,
    front: Annotated[
        bool, typer.Option("--front", help="Networks of the search on the front.")
    ] = False,
    budget: Budgets = None,
    max_mult_adds: Annotated[
        list[str] | None,
        typer.Option(help="Same as --budget mult_adds=..., as 100M. May be repeated."),
    ] = None,
    network: Annotated[
        list[str] | None, typer.Option(help="Architecture file. May be repeated.")
    ] = None,
    weights: Annotated[
        Path | None,
        typer.Option(
            help="Initial weights of the --network: a file of mbsearch, torchvision or timm."
        ),
    ] = None,
    weights_eps: Annotated[
        float, typer.Option(help="Epsilon of its batch norms; 0.001 for torchvision's MobileNetV3.")
    ] = 1e-5,
    teacher: Annotated[
        bool, typer.Option(help="Train with the study's teacher, if it has one.")
    ] = True,
    seeds: Annotated[
        int | None, typer.Option(min=1, help="Trainings a network. By default 3.")
    ] = None,
    int8: Annotated[
        bool,
        typer.Option(
            "--int8", help="Also fine-tune for int8, and evaluate as int8 before and after."
        ),
    ] = False,
    epochs: Annotated[
        int | None, typer.Option(min=1, help="Epochs of a training. By default 20.")
    ] = None,
    scale: Annotated[
        float | None,
        typer.Option(
            help="Training image size as a share of the resolution. By default 1, for the "
            "embedded images the proxy's.",
            show_default=False,
        ),
    ] = None,
    data: StudyData = None,
    jobs: TrainingJobs = None,
    device: Device = None,
    skip_damaged: SkipDamaged = False,
    as_json: Json = False,
) -> None:
    """Train networks by the full recipe on train and validation images, and test them.

    By default the answers to the study's budgets are trained, and for each the study's strongest
    references of that budget, or a MobileNet V1 and V2 of equal cost. The recipe is the space's
    `retrain:`. The same command resumes an interrupted run from the last epoch. Results are written
    to retrain.json and retrain.csv in the study's folder. Networks and seeds of an earlier
    retraining by the same recipe are kept.

    Example: mbsearch retrain results/v2 --budget 20M --budget 50M
    """
    from mbsearch.analysis.answer import answer_text
    from mbsearch.analysis.answer_selection import answers
    from mbsearch.display.progress_display import ProgressDisplay
    from mbsearch.retraining.competitors import competitors
    from mbsearch.retraining.run import retrain_study
    from mbsearch.retraining.selection import Selection, select
    from mbsearch.training.long_training import WeightsFile

    if weights is not None and len(network or []) != 1:
        raise SpecError(f"--weights: expected one --network with it, got {len(network or [])}")
    study = _Study.read(results)
    given = [_read(name, study.classes) for name in network or []]
    budgets = parse_budgets(budget, None, study.space.settings.metric)
    budgets += [parse_budget("--max-mult-adds", text, "mult_adds") for text in max_mult_adds or []]
    selection = Selection(trial or (), top, front, budgets)
    if selection.is_empty and not given:
        main = [] if study.findings.main_budget is None else [study.findings.main_budget]
        selection = Selection(budgets=study.findings.requested or main)
    selected = select(study.findings, selection)
    settings = study.settings(
        {
            "seeds": seeds,
            "epochs": epochs,
            "resolution_scale": scale,
            "quantization_aware": True if int8 else None,
        }
    )
    chosen = competitors(
        selected.records,
        given,
        selected.references,
        metric=settings.metric,
        measure=study.measure,
        limits=settings.limits,
    )
    names, times = dict.fromkeys(each.name for each in chosen), settings.retrain.seeds
    print_line(err, f"retraining {', '.join(names)}, each with {times} seed{'s' * (times > 1)}")
    with resumable_trainings(), ProgressDisplay(err) as display:
        found = retrain_study(
            study.folder,
            chosen,
            settings,
            known=study.images,
            data=data,
            split_seed=study.identity["seed"],
            jobs=jobs,
            device=device,
            skip_damaged=skip_damaged,
            start=(
                None if weights is None else WeightsFile(given[0].fingerprint, weights, weights_eps)
            ),
            teacher=teacher,
            measure=study.measure,
            on_progress=display.update,
        )
    written = study.folder / "retrain.json"
    if as_json:
        print(written.read_text(encoding="utf-8"), end="")  # noqa: T201
        return
    _print(found, study.findings)
    for each in answers(_Study.read(study.folder).findings, selection.budgets).values():
        print_line(out, answer_text(each))
    print_line(err, f"written to {written}")


@dataclass(frozen=True, slots=True)
class _Study:
    """A study whose networks are retrained."""

    folder: Path
    space: SearchSpecification
    facts: Mapping[str, Any]
    findings: Findings
    measure: Measure

    @staticmethod
    def read(path: Path | None) -> _Study:
        """Open a study in a folder, or the newest study in a folder of studies.

        Raises:
            StorageError: there is no such study, or it has no trials.
        """
        from mbsearch.analysis.findings import findings_of
        from mbsearch.config.specification import read_specification
        from mbsearch.latency.model import measure_of_study
        from mbsearch.space.yaml_source import parse_document
        from mbsearch.study.opening import RESULTS, read_study, results_folder
        from mbsearch.study.retrained_file import read_retrained

        folder = results_folder(path or RESULTS)
        store = read_study(folder)
        facts, records = store.settings(), store.records()
        if not records:
            raise StorageError(f"{folder}: expected a study with trials, got one without")
        space = read_specification(parse_document(facts["space_yaml"], "space.yaml"))
        findings = findings_of(records, facts, read_retrained(folder))
        return _Study(folder, space, facts, findings, measure_of_study(facts))

    @property
    def identity(self) -> Identity:
        """The study's identity: its images, split seed and settings."""
        identity: Identity = self.facts[IDENTITY]
        return identity

    @property
    def images(self) -> KnownImages:
        """Images that the study is bound to."""
        from mbsearch.study.images_record import KnownImages

        found = KnownImages.of(self.facts)
        assert found is not None, "a study with trials has an identity"
        return found

    @property
    def classes(self) -> int:
        """Number of classes of the study's images."""
        return self.findings.records[0].architecture.num_classes

    def settings(self, recipe: Mapping[str, float | None]) -> Settings:
        """Return the study's settings with changes to the recipe; None keeps a value.

        Raises:
            SpecError: a change is not valid.
        """
        from pydantic import ValidationError

        from mbsearch.config.retrain_settings import Retrain
        from mbsearch.config.settings import SCRATCH
        from mbsearch.space.yaml_source import format_first_error

        settings = self.space.settings
        given = {key: value for key, value in recipe.items() if value is not None}
        try:
            changed = Retrain.model_validate(settings.retrain.model_dump() | given)
        except ValidationError as error:
            raise SpecError(f"retrain: {format_first_error(error)}") from None
        changes: dict[str, object] = {"retrain": changed}
        if self.identity.get("weights") is None:
            changes["weights"] = SCRATCH
        return settings.model_copy(update=changes)


def _read(name: str, classes: int) -> Architecture:
    """Return an architecture from a file or by name, with the study's number of classes."""
    from mbsearch.config.specification import load
    from mbsearch.space.architecture import Architecture

    loaded = load(name)
    if not isinstance(loaded, Architecture):
        raise SpecError(f"--network {name}: expected an architecture, got a search space")
    return loaded.replace(num_classes=classes)


def _print(found: list[Retrained], findings: Findings) -> None:
    """Print the test accuracies, and the candidates' margins over their references."""
    from mbsearch.analysis.retrained_margins import retrained_margins
    from mbsearch.cost.units import millions
    from mbsearch.study.images_record import balance_note

    balance = balance_note(findings.images, "test")
    table = Table(title=f"Test {found[0].score.noun} after retraining{balance}")
    distinct = {each.fingerprint: each for each in reversed(found)}
    shown = sorted(distinct.values(), key=lambda each: -each.accuracy)
    columns = {
        "network": [escape(each.name) for each in shown],
        "test": [f"{each.accuracy:.4f}" for each in shown],
        "spread": [_decimals(each.spread, 4) for each in shown],
        "int8": [_decimals(each.int8_accuracy, 4) for each in shown],
        "seeds": [str(len(each.seeds)) for each in shown],
        "proxy": [_decimals(each.proxy_accuracy, 3) for each in shown],
        "Mult-Adds": [millions(each.costs["mult_adds"]) for each in shown],
        "params": [millions(each.costs["params"]) for each in shown],
    }
    known = {title: cells for title, cells in columns.items() if any(cells)}
    for title in known:
        table.add_column(title, justify="left" if title == "network" else "right", no_wrap=True)
    for row in zip(*known.values(), strict=True):
        table.add_row(*row)
    print_table(table)
    for margin in retrained_margins(found):
        print_line(out, margin.sentence)


def _decimals(value: float | None, places: int) -> str:
    return "" if value is None else f"{value:.{places}f}"
