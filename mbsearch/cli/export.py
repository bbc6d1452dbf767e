"""``mbsearch export``."""

from __future__ import annotations

import shlex
import shutil
import sys
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, NamedTuple

import typer

from mbsearch.cli.terminal import Budgets, Results, Storage, StudyData, cost, err, parse_budgets
from mbsearch.display.console_log import print_line
from mbsearch.errors import SpecError, StorageError

if TYPE_CHECKING:
    from mbsearch.analysis.findings import Findings
    from mbsearch.config.budgets import Budget
    from mbsearch.study.records import TrialRecord
    from mbsearch.study.store import StudyStore

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
        str | None, typer.Option(help="Same as --budget mult_adds=..., as 100M.")
    ] = None,
    max_params: Annotated[
        str | None,
        typer.Option(help="Bound on the parameters, as 2M. These bounds together are one budget."),
    ] = None,
    max_memory: Annotated[
        str | None, typer.Option(help="Bound on the peak activation memory in bytes, as 500k.")
    ] = None,
    max_latency: Annotated[
        str | None, typer.Option(help="Bound on the predicted latency, as 5ms.")
    ] = None,
    trial: Annotated[int | None, typer.Option(help="Network of this trial.")] = None,
    cheapest_tied: Annotated[
        bool,
        typer.Option(
            "--cheapest-tied",
            help="Of the networks within 1 point of accuracy, the one of smallest cost.",
        ),
    ] = False,
    output: Annotated[
        Path | None,
        typer.Option(
            "--output",
            "-o",
            help="Folder for several formats, or one file: .yaml, .onnx, .pt2, .pte or .tflite. "
            "By default YAML to stdout.",
        ),
    ] = None,
    formats: Annotated[
        str | None,
        typer.Option(
            help="Comma-separated: yaml, pytorch, torch-export, onnx (the default), timm, "
            "executorch, litert, litert-int8, c-array.",
            show_default=False,
        ),
    ] = None,
    int8: Annotated[
        bool, typer.Option("--int8", help="Also quantize the ONNX file, and evaluate both.")
    ] = False,
    preprocess: Annotated[
        bool,
        typer.Option(
            "--preprocess",
            help="Put scaling, mean and deviation into the ONNX files, which then take uint8 "
            "images (N, height, width, channels).",
        ),
    ] = False,
    data: StudyData = None,
    storage: Storage = None,
) -> None:
    """Export a network of a study, as YAML or as a folder of several formats.

    The default is the answer to the study's first budget. Every file is read back, and its outputs
    are compared with the network's.

    Example: mbsearch export --budget 100M -o winner
    """
    single = None if output is None else _single_format(output)
    is_folder = output is not None and single is None
    if (formats is not None or int8) and not is_folder:
        option = "--int8" if formats is None else "--formats"
        raise SpecError(f"{option}: expected --output FOLDER with it, got none")
    if preprocess and not is_folder and single != "onnx":
        raise SpecError("--preprocess: expected --output FOLDER or FILE.onnx with it, got another")
    bounds = zip(_BOUNDS, (max_mult_adds, max_params, max_memory, max_latency), strict=True)
    choice = _Choice(
        trial,
        budget or [],
        {option: text for option, text in bounds if text is not None},
        cheapest_tied,
    )
    record, store = choice.read(results, storage)
    if output is None:
        sys.stdout.write(record.architecture.to_yaml())
        return
    changes = _Changes(int8, preprocess)
    if is_folder:
        _export_folder(record, store, output, results, storage, formats, changes, data)
    elif single is not None:
        _export_file(record, store, output, results, storage, single, changes, data)
    print_line(err, f"{record.label} written to {output}")


def _single_format(output: Path) -> str | None:
    """Return the format of a file by its extension; None for a folder.

    Raises:
        SpecError: the extension is that of no single file.
    """
    suffix = output.suffix.lower()
    if suffix in _YAML:
        return "yaml"
    if output.is_dir() or not suffix[1:2].isalpha():  # "v1.2" has no extension
        return None
    from mbsearch.export.formats import FILE_FORMATS

    if suffix not in FILE_FORMATS:
        raise SpecError(
            f"--output {output}: expected a folder, or a file that ends in one of "
            f"{', '.join(FILE_FORMATS)}, got {output.suffix}"
        )
    return FILE_FORMATS[suffix].name


class _Changes(NamedTuple):
    """Options that change the ONNX files."""

    int8: bool
    preprocess: bool


@dataclass(frozen=True, slots=True)
class _Choice:
    """Options that select the network to export.

    Args:
        trial: number of a trial.
        budgets: texts of ``--budget``.
        bounds: texts of the options that bound one cost each, which form one budget.
        cheapest_tied: whether a statistically tied network of smaller cost is preferred.

    Raises:
        SpecError: the options contradict each other, or a bound is not valid.
    """

    trial: int | None
    budgets: list[str]
    bounds: Mapping[str, str]
    cheapest_tied: bool

    def __post_init__(self) -> None:
        options = [*self.bounds, *["--budget"] * len(self.budgets)]
        if self.trial is not None and options:
            raise SpecError(f"expected --trial or {options[0]}, got both")
        if len(self.budgets) + bool(self.bounds) > 1:
            raise SpecError(f"{options[0]}: expected one budget, got several")
        self._bounded()

    def read(self, results: Path | None, storage: str | None) -> tuple[TrialRecord, StudyStore]:
        """Open the study, and return the selected trial and the store.

        Raises:
            StorageError: there is no such study or trial, or no network within the budget.
        """
        from mbsearch.analysis.answer_selection import cheapest_tied
        from mbsearch.analysis.findings import findings_of
        from mbsearch.study.opening import files_of, read_study
        from mbsearch.study.records import metric_of
        from mbsearch.study.retrained_file import read_retrained

        store = read_study(results, storage)
        records = store.records()
        retrained = read_retrained(files_of(results, storage))
        findings = findings_of(records, store.settings(), retrained)
        budgets = self._bounded() or parse_budgets(self.budgets, None, metric_of(records))
        budget = budgets[0] if budgets else None
        record = self._record(findings, budget)
        return cheapest_tied(findings, record, budget) if self.cheapest_tied else record, store

    def _bounded(self) -> list[Budget]:
        """Return the budget set by the bound options as a one-item list, or an empty list."""
        from mbsearch.config.budgets import Budget
        from mbsearch.cost.metrics import COSTS

        for option, text in self.bounds.items():
            cost(option, text, COSTS[_BOUNDS[option]].key)
        bounds = {_BOUNDS[option]: text for option, text in self.bounds.items()}
        return [Budget.model_validate(bounds)] if bounds else []

    def _record(self, findings: Findings, budget: Budget | None) -> TrialRecord:
        """Return the selected trial, or the answer for the budget (by default the first)."""
        from mbsearch.analysis.answer_selection import answer
        from mbsearch.study.records import find_trial

        if self.trial is not None:
            return find_trial(findings.records, self.trial)
        budget = budget or findings.main_budget
        if budget is None:
            raise StorageError("expected at least one completed trial, got none")
        return answer(findings, budget).record


def _export_folder(
    record: TrialRecord,
    store: StudyStore,
    output: Path,
    results: Path | None,
    storage: str | None,
    formats: str | None,
    changes: _Changes,
    data: str | None,
) -> None:
    """Write a folder with several formats, and print the error of each file."""
    from mbsearch.export.formats import DEFAULT_FORMATS
    from mbsearch.export.graphs import INT8
    from mbsearch.export.study_export import export_record
    from mbsearch.study.opening import files_of

    exported = export_record(
        store,
        record,
        output,
        DEFAULT_FORMATS if formats is None else tuple(formats.replace(" ", "").split(",")),
        command=_command(output, storage),
        home=files_of(results, storage),
        int8=changes.int8,
        preprocess=changes.preprocess,
        data=data,
    )
    for each in exported.files:
        note = each.note if each.error is None else f"read back, relative error {each.error:.1g}"
        print_line(err, f"{each.file}: {note}")
    for file in exported.preprocessed:
        print_line(
            err,
            f"{file.file}: takes bytes, relative error {file.error:.1g} to the file of normalised "
            f"floats on {file.images:,} images",
        )
    if exported.int8 is not None:
        print_line(err, f"{INT8}: {exported.int8.sentence()}")


def _export_file(
    record: TrialRecord,
    store: StudyStore,
    output: Path,
    results: Path | None,
    storage: str | None,
    single: str,
    changes: _Changes,
    data: str | None,
) -> None:
    """Write one file in one format; except for YAML, it is checked as in a folder export."""
    from mbsearch.study.atomic_files import write_atomically

    if single == "yaml":
        write_atomically(output, record.architecture.to_yaml())
        return
    from mbsearch.export.formats import FORMATS

    output.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=output.parent, prefix=f".{output.name}.") as made:
        _export_folder(record, store, Path(made), results, storage, single, changes, data)
        shutil.move(Path(made) / FORMATS[single].file, output)


def _command(output: Path, storage: str | None) -> str:
    """Return the command line for the model card, without passwords and absolute paths."""
    hidden = {storage: "URL"} if storage else {}
    if output.is_absolute():
        hidden[str(output)] = output.name
    words = ["mbsearch", *sys.argv[1:]]
    for text, placeholder in hidden.items():
        words = [word.replace(text, placeholder) for word in words]
    return shlex.join(words)
