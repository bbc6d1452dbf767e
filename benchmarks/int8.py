"""Measure the int8 loss of a reference on test images, before and after fine-tuning for int8.

    python benchmarks/int8.py --rows results/int8/relu6.csv                      # docs/export.md
    python benchmarks/int8.py --activation relu --rows results/int8/relu.csv     # docs/papers/
    python benchmarks/int8.py --plot                                             # of both, there

The accuracies of each training are the rows of a table.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import pandas as pd
import plotly.graph_objects as go

sys.path.insert(0, str(Path(__file__).parents[1] / "scripts"))
from papers import COLOURS, DOCS, ROOT, SIZE, write_plot

from mbsearch.config.families import scaled_reference
from mbsearch.config.proxy_settings import EMBEDDED
from mbsearch.config.retrain_settings import Retrain
from mbsearch.config.settings import Settings
from mbsearch.data.sources import load_source
from mbsearch.execution.protocol import Task
from mbsearch.export.quantization import int8_predictions
from mbsearch.figures.style import styled
from mbsearch.space.architecture import Architecture
from mbsearch.study.training_files import WEIGHTS
from mbsearch.training.devices import choose_device, prepare_worker
from mbsearch.training.long_training import FinalTraining
from mbsearch.training.loop import compile_ahead
from mbsearch.training.network import build
from mbsearch.training.weights import load_weights


@dataclass(frozen=True, slots=True)
class Row:
    """Test accuracies of one training: as float32, as int8, and as int8 after fine-tuning."""

    seed: int
    float32: float
    int8: float
    fine_tuned: float

    def __str__(self) -> str:
        return (
            f"test accuracy {self.float32:.4f}, as int8 {self.int8:.4f} "
            f"({100 * (self.int8 - self.float32):+.2f} points), after fine-tuning "
            f"{self.fine_tuned:.4f} ({100 * (self.fine_tuned - self.float32):+.2f} points)"
        )


ROWS, PLOT = ROOT / "results" / "int8", DOCS / "relu6_int8.svg"
STEPS = {"float32": "float32", "int8": "int8", "fine_tuned": "int8, fine-tuned"}


def figure() -> go.Figure:
    """Return the accuracies of each training with ReLU6 and with ReLU, from the stored rows."""
    plot = go.Figure()
    names = {"relu6": "ReLU6", "relu": "ReLU"}
    for (activation, name), colour in zip(names.items(), COLOURS, strict=False):
        for seed, row in pd.read_csv(ROWS / f"{activation}.csv").iterrows():
            plot.add_scatter(
                x=list(STEPS.values()),
                y=[row[step] for step in STEPS],
                name=name,
                legendgroup=name,
                showlegend=seed == 0,
                marker={"color": colour, "size": 9},
                line={"dash": "dot"},
            )
    return styled(
        plot,
        yaxis={"title": {"text": "Test accuracy (3 seeds)"}},
        paper_bgcolor="#FFFFFF",
        plot_bgcolor="#FFFFFF",
        **SIZE,
    )


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("data", nargs="?", default=EMBEDDED, help="image folder")
    parser.add_argument("--family", default="mobilenet_v1", help="reference")
    parser.add_argument("--alpha", type=float, default=0.25, help="width multiplier")
    parser.add_argument("--resolution", type=int, default=96, help="resolution of the network")
    parser.add_argument("--activation", choices=("relu6", "relu"), default="relu6")
    parser.add_argument("--seeds", type=int, default=3, help="number of trainings")
    parser.add_argument("--epochs", type=int, default=20, help="of a training")
    parser.add_argument("--folder", type=Path, help="keeps trainings, to resume from them")
    parser.add_argument("--rows", type=Path, help="CSV file to write")
    parser.add_argument("--plot", action="store_true", help="only draw the stored rows")
    given = parser.parse_args()
    if given.plot:
        write_plot(figure(), PLOT)
        return
    prepare_worker()
    compile_ahead(choose_device("cpu"))
    source = load_source(given.data, seed=0)
    relu6 = scaled_reference(given.family, given.alpha, given.resolution, source.num_classes)
    network = Architecture.model_validate(relu6.to_dict() | {"activation": given.activation})
    recipe = Retrain(epochs=given.epochs, quantization_aware=True)
    scale = Settings().final_scale(given.data)
    folder = given.folder or Path(tempfile.mkdtemp())
    training = FinalTraining(recipe, scale, given.data, folder, int8=int8_predictions)
    rows = []
    for seed in range(given.seeds):
        task = Task(network, seed)
        found = training.evaluate(task).evaluation
        assert found.int8 is not None
        trained = build(network)
        load_weights(trained, training.home(task) / WEIGHTS)
        images = replace(network.image_format, size=found.pixels)
        (plain,) = int8_predictions(network, trained, source, [source.split("test", images)])
        rows.append(Row(seed, found.accuracy, float(plain.correct.mean()), found.int8.accuracy))
        print(f"seed {seed}: {rows[-1]}", flush=True)
    table = pd.DataFrame(map(asdict, rows))
    print("mean:", Row(given.seeds, *table.drop(columns="seed").mean()))
    if given.rows is not None:
        given.rows.parent.mkdir(parents=True, exist_ok=True)
        table.round(4).to_csv(given.rows, index=False)


if __name__ == "__main__":
    main()
