"""Close the loop of the probe kit on this machine, which pretends to be a device.

    python benchmarks/probe.py KIT [--space v2] [--networks 40] [--others 30]
                               [--runtime onnxruntime] [--rounds 40] [--compare]

Writes a probe kit into KIT, measures its networks, fills in the table, and fits the latency model.
Then the model predicts OTHERS random networks of the space that are not in the kit, and the errors
of the predictions are printed. The device is one thread of onnxruntime without graph optimisation,
or of torch (eager). Times are CPU times of the thread, medians over rounds in which the networks
take turns: other work on the machine then slows all of them alike. With --compare the model is also
fitted to as many networks that `sample_by_cost` chooses.
"""

from __future__ import annotations

import argparse
import csv
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from random import Random

import numpy as np
import torch

from mbsearch.config.specification import SearchSpecification, load_specification
from mbsearch.config.survey import sample_by_cost
from mbsearch.cost import measure
from mbsearch.cost.metrics import LATENCY
from mbsearch.errors import SpecError
from mbsearch.export.exportable import Exportable
from mbsearch.export.graphs import ONNX, write_onnx
from mbsearch.latency.model import LatencyModel
from mbsearch.latency.probe_kit import write_probe_kit
from mbsearch.latency.probe_times import read_device_model
from mbsearch.space.architecture import Architecture
from mbsearch.study.latency_setting import PROBE_KIT, LatencySetting
from mbsearch.training.folding import fold_norms
from mbsearch.training.network import build

Step = Callable[[], object]


def unoptimised(path: Path, network: Architecture) -> Step:
    """Return a function that runs an ONNX file without graph optimisation."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    image = np.random.default_rng(0).standard_normal(
        (1, *network.image_format.shape), dtype=np.float32
    )
    return lambda: session.run(None, {"images": image})


def onnx_step(network: Architecture) -> Step:
    """Return a function that runs a network which is in no kit by onnxruntime."""
    with tempfile.TemporaryDirectory() as folder:
        write_onnx(Exportable(network, build(network).eval(), network.name), Path(folder))
        return unoptimised(Path(folder) / ONNX, network)


def torch_step(network: Architecture) -> Step:
    """Return a function that runs a network by torch, with folded batch normalisation."""
    module = fold_norms(build(network)).eval()
    image = torch.randn(1, *network.image_format.shape)

    @torch.inference_mode()
    def step() -> object:
        return module(image)

    return step


def milliseconds(steps: Sequence[Step], rounds: int) -> list[float]:
    """Return the median CPU time of each network over rounds in which they take turns."""
    found = np.empty((rounds, len(steps)))
    for times in found:
        for i, step in enumerate(steps):
            step()  # brings its weights back into the caches
            started = time.thread_time()
            step()
            times[i] = 1e3 * (time.thread_time() - started)
    return [float(median) for median in np.median(found, axis=0)]


def other_networks(
    space: SearchSpecification, count: int, known: Sequence[Architecture]
) -> list[Architecture]:
    """Return random networks of a space within its limits that are not among the known ones."""
    rng, seen = Random("held out"), {each.fingerprint for each in known}
    found: list[Architecture] = []
    while len(found) < count:
        network = space.decode(space.sample_params(rng))
        try:
            excess = space.settings.exact.excess(measure(network))
        except SpecError:
            continue
        if excess is None and network.fingerprint not in seen:
            seen.add(network.fingerprint)
            found.append(network)
    return found


def fill_in(kit: Path, device: str, times: Sequence[float]) -> Path:
    """Write the times into a copy of the kit's table, and return its path."""
    with (kit / "device.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    for row, cell in zip(rows, times, strict=True):
        row["milliseconds"] = f"{cell:.5g}"
    path = kit / f"{device}.csv"
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    return path


def report(
    name: str, model: LatencyModel, networks: Sequence[Architecture], times: Sequence[float]
) -> None:
    predicted = np.array([model.measure(each)[LATENCY] / 1e3 for each in networks])
    errors = np.abs(predicted / np.array(times) - 1)
    print(
        f"{name}: leave-one-out error {model.median_error:.1%} in the median, "
        f"{model.worst_error:.1%} at worst; error on {len(times)} networks not in the kit "
        f"{np.median(errors):.1%} in the median, {np.quantile(errors, 0.9):.1%} at the 90th "
        f"percentile, {errors.max():.1%} at worst",
        flush=True,
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("kit", type=Path, help="new folder for the kit")
    parser.add_argument("--space", default="v2")
    parser.add_argument("--networks", type=int, default=40)
    parser.add_argument("--others", type=int, default=30)
    parser.add_argument("--runtime", choices=("onnxruntime", "torch"), default="onnxruntime")
    parser.add_argument("--rounds", type=int, default=40)
    parser.add_argument("--compare", action="store_true")
    given = parser.parse_args()
    torch.set_num_threads(1)
    space = load_specification(given.space)
    formats = ("onnx",) if given.runtime == "onnxruntime" else ()
    probes = write_probe_kit(space, given.kit, count=given.networks, formats=formats)
    others = other_networks(space, given.others, probes)
    sampled = sample_by_cost(space, len(probes), 1) if given.compare else []
    if given.runtime == "torch":
        steps = [torch_step(each) for each in (*probes, *others, *sampled)]
    else:
        steps = [unoptimised(given.kit / "onnx" / f"{each.name}.onnx", each) for each in probes]
        steps += [onnx_step(each) for each in (*others, *sampled)]
    times = milliseconds(steps, given.rounds)
    of_probes, rest = times[: len(probes)], times[len(probes) :]
    of_others, of_sampled = rest[: len(others)], rest[len(others) :]
    print(
        f"{given.space}, {given.runtime}: {len(probes)} networks of {min(of_probes):.2f} to "
        f"{max(of_probes):.2f} ms"
    )
    report(
        "probe kit",
        read_device_model(fill_in(given.kit, given.runtime, of_probes)),
        others,
        of_others,
    )
    if sampled:
        setting = LatencySetting(PROBE_KIT, 1, given.runtime, {})
        model = LatencyModel.fit(sampled, [1e3 * each for each in of_sampled], setting)
        report("sample by cost", model, others, of_others)


if __name__ == "__main__":
    main()
