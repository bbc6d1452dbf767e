"""``mbsearch export``."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.markup import escape

from mbsearch.cli.terminal import Results, Storage, cost, err
from mbsearch.errors import SpecError

if TYPE_CHECKING:
    from mbsearch.records import TrialRecord

_YAML = (".yaml", ".yml")
_METRICS = {
    "--max-mult-adds": "mult_adds",
    "--max-params": "params",
    "--max-memory": "peak_activation_bytes",
    "--max-latency": "latency",
}


def export(
    results: Results = None,
    max_mult_adds: Annotated[
        str | None, typer.Option(help="The most accurate network within this budget, as 100M.")
    ] = None,
    max_params: Annotated[
        str | None, typer.Option(help="... of so many parameters, as 2M.")
    ] = None,
    max_memory: Annotated[
        str | None, typer.Option(help="... whose activations need so many bytes, as 500k.")
    ] = None,
    max_latency: Annotated[
        str | None, typer.Option(help="... predicted to take so long, as 5ms.")
    ] = None,
    trial: Annotated[int | None, typer.Option(help="The network of this trial.")] = None,
    cheapest_tied: Annotated[
        bool,
        typer.Option(
            "--cheapest-tied", help="Of those as accurate within the noise, the cheapest."
        ),
    ] = False,
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", help="Folder for all formats, or a .yaml; or stdout."),
    ] = None,
    formats: Annotated[
        str | None,
        typer.Option(
            help="Of yaml, pytorch, torch-export, onnx, timm (all by default), executorch, litert.",
            show_default=False,
        ),
    ] = None,
    int8: Annotated[
        bool, typer.Option("--int8", help="Quantise the ONNX file too, and score both.")
    ] = False,
    storage: Storage = None,
) -> None:
    """Write a network of a study: as YAML, or as a folder of every format; the knee by default.

    Every file is read back, and its outputs compared with the network's, before the command ends.

    Example: mbsearch export --max-mult-adds 100M -o winner
    """
    from mbsearch import results as found
    from mbsearch.report import write_whole
    from mbsearch.search.storage import RESULTS, read_study, results_folder
    from mbsearch.space.settings import Limits, cost_of

    is_folder = output is not None and output.suffix not in _YAML
    if (formats is not None or int8) and not is_folder:
        option = "--int8" if formats is None else "--formats"
        raise SpecError(f"{option}: expected --output FOLDER with it, got none")
    texts = zip(_METRICS, (max_mult_adds, max_params, max_memory, max_latency), strict=True)
    given = {option: text for option, text in texts if text is not None}
    if trial is not None and given:
        raise SpecError(f"expected --trial or {next(iter(given))}, got both")
    for option, text in given.items():
        cost(option, text, cost_of(_METRICS[option]))  # a mistake in it is better said before
    limits = {_METRICS[option]: text for option, text in given.items()}
    store = read_study(results, storage)
    records = store.records()
    record = _choose(records, trial, limits)
    if cheapest_tied:
        bounds = Limits.model_validate(limits)
        records = [r for r in records if bounds.excess(r.costs) is None]
        record = found.cheapest_tied(records, record)
    if output is None:
        sys.stdout.write(record.architecture.to_yaml())
        return
    if not is_folder:
        write_whole(output, record.architecture.to_yaml())
        _say(record, output)
        return

    from mbsearch.export.formats import DEFAULT_FORMATS
    from mbsearch.export.study import export_record

    chosen = DEFAULT_FORMATS if formats is None else tuple(formats.replace(" ", "").split(","))
    # The card goes where the model goes: a database's address may hold a password, and a path on
    # this machine is nobody's.
    hidden = {storage: "URL"} if storage else {}
    if output.is_absolute():
        hidden[str(output)] = output.name
    words = ["mbsearch", *sys.argv[1:]]
    for text, instead in hidden.items():
        words = [word.replace(text, instead) for word in words]
    command = shlex.join(words)
    home = results_folder(results or RESULTS) if storage is None else None
    for each in export_record(store, record, output, chosen, command=command, home=home, int8=int8):
        said = each.note if each.error is None else f"read back, relative error {each.error:.1g}"
        err.print(escape(f"{each.file}: {said}"), highlight=False, soft_wrap=True)
    _say(record, output)


def _choose(records: list[TrialRecord], trial: int | None, limits: dict[str, str]) -> TrialRecord:
    """The record that the options ask for; the knee where they ask for none."""
    from mbsearch import results as found
    from mbsearch.space.settings import Limits

    if trial is not None:
        return found.by_trial(records, trial)
    if limits:
        return found.best_within(records, Limits.model_validate(limits))
    return found.knee(records)


def _say(record: TrialRecord, output: Path) -> None:
    err.print(f"trial {record.trial} ({record.origin}) written to {escape(str(output))}")
