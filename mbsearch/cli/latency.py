"""``mbsearch latency``."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.markup import escape
from rich.table import Table

from mbsearch.cli.terminal import Json, Storage, err, out, print_table
from mbsearch.errors import SpecError

if TYPE_CHECKING:
    from mbsearch.space.architecture import Architecture


def latency(
    what: Annotated[
        str | None, typer.Argument(help="Architecture (file or reference), or folder of a study.")
    ] = None,
    alpha: Annotated[
        list[float] | None, typer.Option(help="Width multiplier. May be repeated.")
    ] = None,
    resolution: Annotated[
        list[int] | None, typer.Option(help="Image side in pixels. May be repeated.")
    ] = None,
    engine: Annotated[
        list[str] | None, typer.Option(help="onnxruntime or torch. By default both.")
    ] = None,
    threads: Annotated[int, typer.Option(min=1, help="Threads of an engine.")] = 1,
    runs: Annotated[int, typer.Option(min=10, help="Number of timed runs for each network.")] = 100,
    storage: Storage = None,
    as_json: Json = False,
) -> None:
    """Measure the latency of networks on this machine; of a study, its front and references.

    Kendall's tau of the latencies with Mult-Adds is printed for several networks. The latencies of
    a study are saved in its latency.json, by engine.

    Example: mbsearch latency mobilenet_v2 --alpha 0.5 --alpha 1.0
    """
    from mbsearch.analysis.pareto import kendall_tau
    from mbsearch.cost import measure
    from mbsearch.cost.units import millions
    from mbsearch.latency.benchmark import ENGINES, measure_latency
    from mbsearch.study.artifacts import LATENCY, latency_rows, read_latencies
    from mbsearch.study.atomic_files import write_whole

    networks, folder = _networks(what, storage, alpha or [], resolution or [])
    engines = engine or list(ENGINES)
    others: list[dict[str, Any]] = []
    if folder is not None:
        read_latencies(folder)  # a damaged file is better said before
        others = [row for row in latency_rows(folder) if row["engine"] not in engines]
    costs = [measure(network)["mult_adds"] for network in networks]
    rows: list[dict[str, Any]] = []
    agreement: dict[str, float | None] = {}
    for name in engines:
        found = measure_latency(networks, engine=name, threads=threads, runs=runs)
        tau = kendall_tau(costs, [each.median_seconds for each in found])
        agreement[name] = tau if tau == tau else None  # tau of a single network is not a number
        rows += [
            {
                "name": network.name,
                "fingerprint": network.fingerprint,
                "alpha": network.alpha,
                "resolution": network.resolution,
                "mult_adds": cost,
                **each.to_dict(),
            }
            for network, cost, each in zip(networks, costs, found, strict=True)
        ]
    if folder is not None:
        folder.mkdir(parents=True, exist_ok=True)
        write_whole(folder / LATENCY, json.dumps({"networks": [*others, *rows]}))
    if as_json:
        # Not rich's own, which would wrap long lines.
        print(json.dumps({"networks": rows, "kendall_tau_with_mult_adds": agreement}))  # noqa: T201
        return
    table = Table(title=f"One image, {threads} thread{'s' if threads > 1 else ''}")
    for column in ("network", "alpha", "px", "Mult-Adds", "engine", "median ms", "quartiles"):
        table.add_column(
            column, justify="left" if column in ("network", "engine") else "right", no_wrap=True
        )
    for row in rows:
        low, middle, high = (
            1000 * row[f"{key}_seconds"] for key in ("lower_quartile", "median", "upper_quartile")
        )
        table.add_row(
            escape(row["name"]),
            f"{row['alpha']:g}",
            str(row["resolution"]),
            millions(row["mult_adds"]),
            row["engine"],
            f"{middle:.2f}",
            f"{low:.2f}-{high:.2f}",
        )
    print_table(table)
    for name, agreed in agreement.items():
        if agreed is not None:
            out.print(
                f"{name}: Kendall's tau between Mult-Adds and latency is {agreed:.2f}",
                highlight=False,
                soft_wrap=True,
            )
    if folder is not None:
        err.print(escape(f"written to {folder / LATENCY}"), highlight=False, soft_wrap=True)


def _networks(
    what: str | None, storage: str | None, alphas: list[float], resolutions: list[int]
) -> tuple[list[Architecture], Path | None]:
    """Return the networks to measure, and the folder of their study."""
    from mbsearch.config.specification import load
    from mbsearch.space.architecture import Architecture
    from mbsearch.space.library import reference_names
    from mbsearch.study.store import journals

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
        for resolution in resolutions or [loaded.resolution]
        for alpha in alphas or [loaded.alpha]
    ], None


def _front(
    path: Path | None, storage: str | None, changed: object
) -> tuple[list[Architecture], Path]:
    from mbsearch.analysis import tables as found
    from mbsearch.study.records import complete
    from mbsearch.study.store import files_of, read_study

    if changed:
        raise SpecError(
            "--alpha, --resolution: expected an architecture with them, got "
            + ("none" if path is None else f"the study {path}")
        )
    records = read_study(path, storage).records()
    chosen = found.front(records) + [r for r in complete(records) if r.is_baseline]
    networks = {r.fingerprint: r.architecture.replace(name=r.label) for r in chosen}
    return list(networks.values()), files_of(path, storage)
