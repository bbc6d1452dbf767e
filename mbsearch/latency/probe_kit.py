"""Write a probe kit: networks to measure on a device, a table for their times, and a README."""

from __future__ import annotations

import csv
import tempfile
from collections.abc import Sequence
from io import StringIO
from pathlib import Path

from mbsearch.config.specification import SearchSpecification
from mbsearch.cost import measure
from mbsearch.errors import ExportError
from mbsearch.export.exportable import Exportable
from mbsearch.export.formats import Format, require
from mbsearch.latency.probe_design import probe_networks
from mbsearch.latency.probe_times import ARCHITECTURES, FILE, MILLISECONDS, NO_TIME
from mbsearch.progress import OnProgress, Progress, ignore_progress
from mbsearch.space.architecture import Architecture
from mbsearch.study.atomic_files import write_atomically
from mbsearch.training.network import build

NETWORKS = 40
TEMPLATE = "device.csv"
"""Table to copy and fill in."""
KIT_FORMATS = ("onnx", "litert")
"""Formats that devices run. One whose packages are not installed is left out."""

_README = f"""\
# Probe kit of the space {{space}}

{{count}} networks, spread over the kernels, widths and strides of the space. Their weights are
random: only the time of one image counts. `{TEMPLATE}` has a row for each.

1. Copy `{TEMPLATE}` to a file named after your device, as `pi5.csv`, beside the folder
   `{ARCHITECTURES}`. Studies and model cards call the device by that name.
2. Measure each network as your application will run it: threads, clock and cooling as in use,
   one image at a time, the median of 50 runs or more after 10 that do not count.
3. Write the milliseconds into the column `{MILLISECONDS}`. `{NO_TIME}` stands for a network that
   does not run, as one that needs too much memory. A decimal comma and `;` are accepted.
4. `mbsearch latency --from pi5.csv` fits the latency model and prints its cross-validated error.
5. `mbsearch run --space {{space}} --objective latency --latency-from pi5.csv` searches for that
   device.

The folders of networks: {{folders}}.

## With onnxruntime

```python
import csv
import statistics
import time

import numpy as np
import onnxruntime

NAME = "pi5"  # of your device
options = onnxruntime.SessionOptions()
options.intra_op_num_threads = 1
with open("{TEMPLATE}", newline="") as file:
    rows = list(csv.DictReader(file))
for row in rows:
    session = onnxruntime.InferenceSession(f"onnx/{{{{row['file']}}}}.onnx", options)
    shape = session.get_inputs()[0].shape[1:]
    image = np.random.default_rng(0).standard_normal((1, *shape), dtype=np.float32)
    times = []
    for _ in range(60):
        started = time.perf_counter()
        session.run(None, {{{{"images": image}}}})
        times.append(time.perf_counter() - started)
    row["{MILLISECONDS}"] = 1e3 * statistics.median(times[10:])
with open(f"{{{{NAME}}}}.csv", "w", newline="") as file:
    writer = csv.DictWriter(file, rows[0])
    writer.writeheader()
    writer.writerows(rows)
```

## With LiteRT (TensorFlow Lite)

`benchmark_model --graph=FILE.tflite --num_threads=1 --warmup_runs=10 --num_runs=50` prints the mean
in microseconds as `Inference (avg)`; divide it by 1000. On Android:
`adb push` the program and the files to `/data/local/tmp`, and run it by `adb shell`.

## On a microcontroller

Build each network into the firmware, one at a time. Read a timer before and after the call that
runs it (the cycle counter `DWT->CYCCNT` of a Cortex-M, divided by the clock in kHz, is
milliseconds), and print the median of a few runs: the times hardly vary.
"""


def write_probe_kit(
    space: SearchSpecification,
    folder: Path,
    *,
    count: int = NETWORKS,
    seed: int = 0,
    formats: Sequence[str] = KIT_FORMATS,
    on_progress: OnProgress = ignore_progress,
) -> list[Architecture]:
    """Write a probe kit for a space into a new folder, and return its networks.

    Args:
        space: the space to sample.
        folder: of the kit.
        count: number of networks.
        seed: seed of the sample.
        formats: names of export formats; those whose packages are not installed are left out.
        on_progress: receives an event for each network.

    Raises:
        SpecError: the space has too few networks within its limits.
        ExportError: no format can be written, or the folder is not empty or cannot be written.
    """
    available = _available(formats)
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise ExportError(f"{folder}: expected a new or empty folder, got one with files")
    networks = [
        network.replace(name=f"probe-{i:02}")
        for i, network in enumerate(probe_networks(space, count, seed), start=1)
    ]
    try:
        for home in (ARCHITECTURES, *(each.name for each in available)):
            (folder / home).mkdir(parents=True)
        for done, network in enumerate(networks, start=1):
            _write_network(network, folder, available)
            on_progress(Progress("networks of the probe kit", done, len(networks)))
        write_atomically(folder / TEMPLATE, _table(networks))
        folders = ", ".join(f"`{each.name}`" for each in available)
        text = _README.format(space=space.name, count=len(networks), folders=folders)
        write_atomically(folder / "README.md", text)
    except OSError as error:
        raise ExportError(f"{folder}: cannot be written: {error.strerror or error}") from None
    return networks


def _available(formats: Sequence[str]) -> list[Format]:
    """Return the formats whose packages are installed; raise an error if there are none."""
    found = []
    for name in formats:
        try:
            found += require([name])
        except ExportError:
            continue
    if not found:
        require(formats)
    return found


def _write_network(network: Architecture, folder: Path, formats: Sequence[Format]) -> None:
    """Write a network as YAML, and in each format into a folder named after it."""
    write_atomically(folder / ARCHITECTURES / f"{network.name}.yaml", network.to_yaml())
    exportable = Exportable(network, build(network).eval(), f"{network.name}: random weights.")
    for each in formats:
        with tempfile.TemporaryDirectory() as made:
            each.write(exportable, Path(made))
            content = (Path(made) / each.file).read_bytes()
        name = f"{network.name}{Path(each.file).suffix}"
        write_atomically(folder / each.name / name, content)


def _table(networks: Sequence[Architecture]) -> str:
    text = StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow((FILE, "mult_adds", MILLISECONDS))
    for network in networks:
        writer.writerow((network.name, measure(network)["mult_adds"], ""))
    return text.getvalue()
