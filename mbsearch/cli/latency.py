"""``mbsearch latency``."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.markup import escape

from mbsearch.cli.terminal import (
    SIZE_HELP,
    Json,
    Storage,
    err,
    plain_table,
    print_table,
    print_text,
    read_size,
)
from mbsearch.display.console_log import print_line
from mbsearch.errors import SpecError
from mbsearch.progress import CountLines

if TYPE_CHECKING:
    from mbsearch.space.architecture import Architecture
    from mbsearch.study.latency_file import NetworkLatency


def latency(
    what: Annotated[
        str | None, typer.Argument(help="Architecture (file or reference), or folder of a study.")
    ] = None,
    alpha: Annotated[
        list[float] | None, typer.Option(help="Width multiplier. May be repeated.")
    ] = None,
    resolution: Annotated[
        list[str] | None, typer.Option(help=f"{SIZE_HELP} May be repeated.")
    ] = None,
    engine: Annotated[
        list[str] | None, typer.Option(help="onnxruntime or torch. By default both.")
    ] = None,
    threads: Annotated[int, typer.Option(min=1, help="Threads of an engine.")] = 1,
    runs: Annotated[int, typer.Option(min=10, help="Number of timed runs for each network.")] = 100,
    probe: Annotated[
        Path | None,
        typer.Option(
            help="Write networks of the space WHAT to measure on a device into this folder.",
            show_default=False,
        ),
    ] = None,
    networks: Annotated[
        int, typer.Option(min=8, max=1000, help="Number of networks of --probe.")
    ] = 40,
    times: Annotated[
        Path | None,
        typer.Option(
            "--from",
            help="Fit the latency model of a device to this table of a probe kit, and write it "
            "beside the table as JSON.",
            show_default=False,
        ),
    ] = None,
    storage: Storage = None,
    as_json: Json = False,
) -> None:
    """Measure latency on this machine: of given networks, or of a study's front and references.

    Kendall's tau of the latencies with Mult-Adds is printed for several networks. The latencies of
    a study are saved in its latency.json, by engine. A warning says that the machine is busy.

    Another device is measured by you: --probe writes the networks and a table, --from reads it.

    Examples:

    mbsearch latency mobilenet_v2 --alpha 0.5 --alpha 1.0

    mbsearch latency v2.yaml --probe kit

    mbsearch latency --from kit/pi5.csv
    """
    if times is not None:
        _require_alone("--from", what, probe)
        _fit_device(times, as_json=as_json)
        return
    if probe is not None:
        _write_probe_kit(what, probe, networks)
        return
    from mbsearch.latency.benchmark import ENGINES, measure_networks, tau_with_mult_adds
    from mbsearch.study.latency_file import LatencyFile

    measured, folder = _networks(what, storage, alpha or [], resolution or [])
    kept = LatencyFile() if folder is None else LatencyFile.read(folder)
    engines = engine or list(ENGINES)
    print_line(
        err, f"measuring {len(measured)} networks by {' and '.join(engines)}, {runs} runs each"
    )
    rows = measure_networks(
        measured,
        engines,
        threads=threads,
        runs=runs,
        # No bar: drawing it would take time from what is measured.
        on_progress=CountLines(partial(print_line, err)),
    )
    agreement = tau_with_mult_adds(rows)
    if as_json:
        # Not rich's own, which would wrap long lines.
        data = [row.to_dict() for row in rows]
        print(json.dumps({"networks": data, "kendall_tau_with_mult_adds": agreement}))  # noqa: T201
    else:
        _print_table(rows, agreement, threads)
    if folder is not None:  # after the table, which a folder that is not writable would lose
        path = kept.with_engines_of(rows).write(folder)
        if not as_json:
            print_line(err, f"written to {path}")


def _require_alone(option: str, what: str | None, probe: Path | None) -> None:
    """Raise an error for what does not go with an option."""
    other = what if what is not None else probe
    if other is not None:
        raise SpecError(
            f"{option}: expected no {'WHAT' if what else '--probe'} with it, got {other}"
        )


def _fit_device(times: Path, *, as_json: bool) -> None:
    """Fit a device's latency model to a table, print its errors, and write it beside the table."""
    from mbsearch.latency.probe_times import read_device_model

    model = read_device_model(times)
    if as_json:
        print(json.dumps(model.to_dict()))  # noqa: T201
    else:
        print_text(model.sentence())
    path = times.with_suffix(".json")
    if path != times:
        model.write_file(path)
        print_line(err, f"written to {path}")
    print_line(err, f"next: mbsearch run --objective latency --latency-from {path}")


def _write_probe_kit(what: str | None, folder: Path, count: int) -> None:
    """Write a probe kit for the space `what`."""
    from mbsearch.config.specification import load_specification
    from mbsearch.latency.probe_kit import write_probe_kit

    if what is None:
        raise SpecError("--probe: expected a space with it, as v2.yaml, got none")
    space = load_specification(what)
    on_progress = CountLines(partial(print_line, err))
    written = write_probe_kit(space, folder, count=count, on_progress=on_progress)
    fewer = "" if len(written) == count else f" (all candidates; {count} were asked for)"
    print_line(err, f"{len(written)} networks{fewer} written to {folder}")
    print_line(err, f"next: {folder / 'README.md'} says how to measure them")


def _print_table(
    rows: Sequence[NetworkLatency], agreement: Mapping[str, float | None], threads: int
) -> None:
    """Print the latency of every network and engine, and the rank agreement with Mult-Adds."""
    from mbsearch.cost.units import millions

    table = plain_table(f"One image, {threads} thread{'s' if threads > 1 else ''}")
    for column in ("network", "alpha", "px", "Mult-Adds", "engine", "median ms", "quartiles"):
        table.add_column(
            column, justify="left" if column in ("network", "engine") else "right", no_wrap=True
        )
    for row in rows:
        times = row.latency.quartiles
        table.add_row(
            escape(row.name),
            f"{row.alpha:g}",
            str(row.resolution),
            millions(row.mult_adds),
            row.latency.engine,
            f"{times.median / 1000:.2f}",
            f"{times.low / 1000:.2f}-{times.high / 1000:.2f}",
        )
    print_table(table, ("quartiles", "px", "alpha"))
    for name, agreed in agreement.items():
        if agreed is not None:
            print_text(f"{name}: Kendall tau of {agreed:.2f} between Mult-Adds and latency")


def _networks(
    what: str | None, storage: str | None, alphas: list[float], resolutions: list[str]
) -> tuple[list[Architecture], Path | None]:
    """Return the networks to measure, and their study's folder."""
    from mbsearch.config.specification import load
    from mbsearch.space.architecture import Architecture
    from mbsearch.space.library import reference_names
    from mbsearch.study.opening import journals

    if what is None or storage is not None:
        return _front(None if what is None else Path(what), storage, alphas or resolutions)
    path = Path(what)
    # A folder may have the name of a reference without being a study.
    if path.is_dir() and (what not in reference_names() or journals(path)):
        return _front(path, None, alphas or resolutions)
    loaded = load(what)
    if not isinstance(loaded, Architecture):
        raise SpecError(f"{what}: expected an architecture or the folder of a study, got a space")
    return [
        loaded.replace(alpha=alpha, resolution=resolution)
        for resolution in [read_size(text) for text in resolutions] or [loaded.resolution]
        for alpha in alphas or [loaded.alpha]
    ], None


def _front(
    path: Path | None, storage: str | None, changed: object
) -> tuple[list[Architecture], Path]:
    from mbsearch.analysis.front import front_of
    from mbsearch.study.opening import files_of, read_study
    from mbsearch.study.records import complete

    if changed:
        raise SpecError(
            "--alpha, --resolution: expected an architecture with them, got "
            + ("none" if path is None else f"the study {path}")
        )
    records = read_study(path, storage).records()
    chosen = front_of(records) + [r for r in complete(records) if r.is_baseline]
    networks = {r.fingerprint: r.architecture.replace(name=r.label) for r in chosen}
    return list(networks.values()), files_of(path, storage)
