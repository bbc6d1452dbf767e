from __future__ import annotations

import json
import math
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from fake_search import search
from noise_images import write_noise_images
from reports.command_line import in_this_process
from reports.in_process import training_in_this_process

from mbsearch.analysis.answer_selection import answer
from mbsearch.analysis.findings import Findings
from mbsearch.analysis.retrained_margins import retrained_margins
from mbsearch.cli import main
from mbsearch.config.budgets import Budget, Limits
from mbsearch.config.families import scaled_reference
from mbsearch.config.proxy_settings import Proxy
from mbsearch.config.retrain_settings import Retrain
from mbsearch.config.specification import load_specification
from mbsearch.cost import measure
from mbsearch.data.batches import Batch, Split
from mbsearch.data.sources import load_source
from mbsearch.errors import DataError, EvaluationError, SpecError
from mbsearch.execution.local import Finished
from mbsearch.execution.protocol import Outcome, Task
from mbsearch.figures.retrained import retrained_rows
from mbsearch.progress import Progress
from mbsearch.retraining.competitors import Competitor, competitors, equal_cost_references
from mbsearch.retraining.run import retrain, write_retrained
from mbsearch.space.architecture import Architecture, Head, Stem
from mbsearch.space.blocks import InvertedResidual
from mbsearch.space.library import load_reference
from mbsearch.space.size import Size
from mbsearch.study.journal import open_journal
from mbsearch.study.opening import JOURNAL, read_study
from mbsearch.study.records import Evaluation
from mbsearch.study.retrained_file import Retrained, read_retrained
from mbsearch.study.store import create_study
from mbsearch.training.distributed import Rank
from mbsearch.training.long_training import FinalTraining, LongTraining, WeightsFile
from mbsearch.training.loop import evaluate
from mbsearch.training.network import build
from mbsearch.training.proxy import ProxyTraining

CPU = torch.device("cpu")
SMALL = Architecture(
    resolution=Size.square(32),
    num_classes=2,
    stem=Stem(channels=8),
    stages=(InvertedResidual(block="inverted_residual", channels=8, expansion=2),),
    head=Head(channels=16),
)
EPOCHS = 8
RECIPE = Retrain(epochs=3, batch_size=8, mixup=0.2, ema_decay=0.9)


@pytest.fixture
def images(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Light and dark noise in three splits, and a cache of its own."""
    monkeypatch.setenv("MBSEARCH_CACHE", str(tmp_path / "cache"))
    return write_noise_images(tmp_path / "images", {"train": 16, "val": 8, "test": 10})


def evaluator(images: Path, recipe: Retrain = RECIPE) -> FinalTraining:
    return FinalTraining(recipe, 0.5, str(images), images.parent / "retrain")


def spoil_test(images: Path) -> None:
    for path in (images / "test").glob("*/*.png"):
        size, times = path.stat().st_size, (path.stat().st_atime_ns, path.stat().st_mtime_ns)
        path.write_bytes(b"x" * size)
        os.utime(path, ns=times)


def test_search_and_training_never_open_a_test_image(images: Path) -> None:
    # Files of the test that nobody can read stop the one step that needs them, and nothing else.
    load_source(str(images), seed=0)  # all files are checked once, before
    spoil_test(images)
    proxy = Proxy(epochs=1, batch_size=8, train_images=None, validation_images=None)
    ProxyTraining(proxy, str(images)).evaluate(Task(SMALL, seed=0))
    final_training, task = evaluator(images), Task(SMALL, seed=0)
    with pytest.raises(DataError, match=r"test.*expected an image"):
        final_training.evaluate(task)
    checkpoint = torch.load(final_training.home(task) / "checkpoint.pt")
    assert len(checkpoint["curve"]) == RECIPE.epochs, "all epochs ended before the test was opened"
    assert not (final_training.home(task) / "weights.pt").exists()


def test_retraining_uses_train_and_validation_images_and_reports_test_accuracy(
    images: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[int] = []
    monkeypatch.setattr(LongTraining, "__post_init__", spy(LongTraining.__post_init__, seen))
    final_training, task = evaluator(images), Task(SMALL, seed=1)
    result = final_training.evaluate(task).evaluation
    assert seen == [48]
    network = build(SMALL).eval()
    network.load_state_dict(torch.load(final_training.home(task) / "weights.pt"))
    source = load_source(str(images), seed=0)
    loss, accuracy = evaluate(network, source.split("test", 16), CPU)
    assert result.accuracy == accuracy
    assert result.validation_loss == pytest.approx(loss)
    assert result.predictions is not None
    assert result.predictions.labels.tolist() == source.members["test"].labels.tolist()
    assert np.mean(result.predictions.correct) == pytest.approx(accuracy)
    assert (result.pixels, result.evaluator) == (Size.square(16), "retraining")
    assert accuracy > 0.7
    assert all(math.isnan(epoch.validation_accuracy) for epoch in result.curve)


def spy(original: object, seen: list[int]) -> object:
    def noted(self: LongTraining) -> None:
        seen.append(len(self.train_split))
        original(self)  # type: ignore[operator]

    return noted


@pytest.mark.slow
def test_two_devices_share_a_training_that_resumes(images: Path) -> None:
    both, task = replace(evaluator(images), devices=(CPU, CPU)), Task(SMALL, seed=0)
    evaluation = both.evaluate(task).evaluation
    assert len(evaluation.curve) == RECIPE.epochs
    assert evaluation.accuracy > 0.7
    (both.home(task) / "checkpoint.pt").write_bytes(b"torn")
    with pytest.raises(EvaluationError, match=r"^\S*checkpoint.pt: expected a checkpoint of this"):
        both.evaluate(task)


def test_a_killed_training_resumes_with_the_same_result(
    images: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = evaluator(images).evaluate(Task(SMALL, seed=0)).evaluation
    shutil.rmtree(images.parent / "retrain")
    run_epoch = LongTraining.run_epoch

    def dies_in_the_third(self: LongTraining) -> object:
        if len(self.curve) == 2:
            raise KeyboardInterrupt
        return run_epoch(self)

    with monkeypatch.context() as patched:
        patched.setattr(LongTraining, "run_epoch", dies_in_the_third)
        with pytest.raises(KeyboardInterrupt):
            evaluator(images).evaluate(Task(SMALL, seed=0))
    again = evaluator(images).evaluate(Task(SMALL, seed=0)).evaluation
    assert again.accuracy == whole.accuracy
    assert again.validation_loss == whole.validation_loss
    assert [e.train_loss for e in again.curve] == [e.train_loss for e in whole.curve]


def test_a_training_can_start_from_given_weights(images: Path) -> None:
    torch.save(build(SMALL, seed=5).state_dict(), images.parent / "given.pth")
    still = Retrain(epochs=1, batch_size=8, learning_rate=1e-9, ema_decay=0)
    start = WeightsFile(SMALL.fingerprint, images.parent / "given.pth")
    trained = replace(evaluator(images, still), start=start)
    task = Task(SMALL, seed=0)
    trained.evaluate(task)
    weights = torch.load(trained.home(task) / "weights.pt")
    expected = build(SMALL, seed=5).get_parameter("stem.conv.weight")
    assert torch.allclose(weights["stem.conv.weight"], expected, atol=1e-6)
    facts = [start.facts(), replace(start, eps=0.001).facts()]
    torch.save(build(SMALL, seed=6).state_dict(), start.path)
    facts.append(start.facts())
    assert len({json.dumps(each) for each in facts}) == 3, "other weights are another training"
    with pytest.raises(
        DataError, match=r"missing.pth: expected a file of weights, got no such file"
    ):
        replace(start, path=images / "missing.pth").facts()


def test_a_damaged_checkpoint_is_named(images: Path) -> None:
    task = Task(SMALL, seed=0)
    home = evaluator(images).home(task)
    home.mkdir(parents=True)
    (home / "checkpoint.pt").write_bytes(b"PK\x03\x04 torn")
    with pytest.raises(EvaluationError, match=r"checkpoint.pt: expected a checkpoint .* remove it"):
        evaluator(images).evaluate(task)


def long_training(recipe: Retrain) -> LongTraining:
    pixels = torch.randint(0, 256, (16, 3, 8, 8), dtype=torch.uint8)
    split = Split(pixels, torch.arange(16) % 2, (0.5,) * 3, (0.2,) * 3, 2)
    return LongTraining(build(SMALL), recipe, split, None, CPU, 0, flip=False)


def test_the_average_follows_the_weights_by_its_decay() -> None:
    training = long_training(Retrain(ema_decay=0.75))
    weight = training.network.get_parameter("head.classifier.weight")
    averaged = training.scored.get_parameter("head.classifier.weight")
    expected = None
    with torch.no_grad():
        for step in range(60):
            value = float(step % 7)
            weight.fill_(value)
            training.after_step()
            decay = min(0.75, (1 + step) / (10 + step))
            expected = value if expected is None else decay * expected + (1 - decay) * value
            assert torch.allclose(averaged, torch.tensor(expected))
    assert long_training(Retrain(ema_decay=0)).scored is not training.network


def test_mixup_interpolates_the_losses_of_both_images() -> None:
    torch.manual_seed(0)
    training = long_training(Retrain(mixup=0.9, label_smoothing=0))
    training.network.eval()
    images, labels = torch.randn(6, 3, 8, 8), torch.zeros(6, dtype=torch.int64)
    # With one label for all, only the images are mixed: of one image it is the plain loss.
    same = images[:1].expand(6, -1, -1, -1)
    plain = long_training(Retrain(mixup=0, label_smoothing=0))
    plain.network.eval()
    assert torch.allclose(
        training.loss(Batch(same, labels)), plain.loss(Batch(same, labels)), atol=1e-6
    )
    assert not torch.allclose(
        training.loss(Batch(images, labels)), plain.loss(Batch(images, labels)), atol=1e-6
    )


def test_ranks_draw_the_same_batches() -> None:
    states = []
    for index in (0, 1):
        training = long_training(Retrain(mixup=0.4))
        training.rank = Rank(index, 2)  # of 5 images one has 3, the other 2
        training.loss(Batch(torch.randn(5, 3, 8, 8), torch.zeros(5, dtype=torch.int64)))
        states.append(training._generator.get_state())
    assert torch.equal(*states)


def test_the_average_of_a_short_training_is_not_its_first_weights() -> None:
    training = long_training(Retrain())
    weight = training.network.get_parameter("head.classifier.weight")
    with torch.no_grad():
        for step in range(40):
            weight.fill_(0.0 if step == 0 else 1.0)
            training.after_step()
    assert training.scored.get_parameter("head.classifier.weight").mean() > 0.99


def test_references_are_mobilenets_of_equal_cost() -> None:
    space = load_specification("v2")
    for seed in range(2):
        network = space.sample(seed).replace(name="ours", num_classes=10)
        target = measure(network)["mult_adds"]
        families = [reference.family for reference in equal_cost_references(network)]
        assert families == ["mobilenet_v1", "mobilenet_v2"]
        for reference in equal_cost_references(network):
            assert measure(reference.architecture)["mult_adds"] == pytest.approx(target, rel=0.05)
            assert reference.architecture.num_classes == 10
            assert reference.reference_of == "ours"


def test_references_of_equal_cost_keep_the_limits_of_their_candidate() -> None:
    network = scaled_reference("mobilenet_v3_small", 0.55, 240, 10)
    within = Limits(flash_bytes="1MiB", ram_bytes=300_000)
    free = [measure(each.architecture) for each in equal_cost_references(network)]
    assert all(within.excess(costs) for costs in free), "else the limits would say nothing"
    for reference in equal_cost_references(network, limits=within):
        assert within.excess(measure(reference.architecture)) is None
    beyond = Limits(flash_bytes="100KiB")
    assert [measure(r.architecture) for r in equal_cost_references(network, limits=beyond)] == free


class Answers:
    """An executor that answers at once, with accuracies by network and seed."""

    slots = 1

    def __init__(self, accuracies: dict[tuple[str, int], float], deaths: int = 0) -> None:
        self.accuracies, self.deaths = accuracies, deaths
        self.waiting: list[Finished] = []

    def submit(self, ticket: int, task: Task) -> None:
        if self.deaths > 0:
            self.deaths -= 1
            self.waiting.append(Finished(ticket, error="its worker process died", lost=True))
            return
        accuracy = self.accuracies[task.architecture.name, task.seed]
        if math.isnan(accuracy):
            self.waiting.append(Finished(ticket, error="diverged in epoch 1"))
            return
        evaluation = Evaluation(
            accuracy, 1.0, 2.0, task.seed, Size.square(16), (), "fake", {}, "cpu"
        )
        self.waiting.append(Finished(ticket, Outcome(evaluation)))

    def wait(self, timeout: float) -> list[Finished]:
        waiting, self.waiting = self.waiting, []
        return waiting

    def close(self) -> None: ...


def pair() -> list[Competitor]:
    ours = Competitor("ours", "search", SMALL.replace(name="ours"), proxy_accuracy=0.5)
    theirs = Competitor(
        "v2", "mobilenet_v2", SMALL.replace(name="v2", alpha=0.5), reference_of="ours"
    )
    return [ours, theirs]


def outcome(
    ours: list[float],
    theirs: list[float],
    deaths: int = 0,
) -> list[Retrained]:
    accuracies = {("ours", i): a for i, a in enumerate(ours)}
    accuracies |= {("v2", i): a for i, a in enumerate(theirs)}
    return retrain(pair(), Answers(accuracies, deaths), len(ours))


def test_means_and_spreads_are_over_the_seeds(tmp_path: Path) -> None:
    results = outcome([0.8, 0.9, 0.7], [0.6, 0.6, 0.9], deaths=2)
    assert [r.accuracies for r in results] == [(0.8, 0.9, 0.7), (0.6, 0.6, 0.9)]
    assert results[0].accuracy == pytest.approx(0.8)
    assert results[0].spread == pytest.approx(0.1)
    write_retrained(tmp_path, results, {"epochs": 3})
    written = json.loads((tmp_path / "retrain.json").read_text())
    assert [row["proxy_accuracy"] for row in written["networks"]] == [0.5, None]
    assert written["leads"][0]["candidate"] == "ours"
    assert (tmp_path / "retrain.csv").read_text().count("\n") == 3
    ours, theirs = read_retrained(tmp_path)
    assert (ours.accuracy, ours.spread) == (results[0].accuracy, results[0].spread)
    assert (ours.candidate, theirs.candidate, ours.seeds) == ("ours", "ours", (0, 1, 2))
    assert ours.margins == (retrained_margins(results)[0].sentence,)


@pytest.mark.parametrize(
    ("theirs", "verdict"),
    [
        ([0.70, 0.71, 0.69], "+10.0 points over v2 (95 % interval +"),
        ([0.90, 0.91, 0.89], "-10.0 points over v2 (95 % interval -"),
        ([0.79, 0.85, 0.70], ", not significant)"),
    ],
)
def test_a_margin_is_significant_if_its_interval_excludes_zero(
    theirs: list[float], verdict: str
) -> None:
    ours = [0.80, 0.81, 0.79]
    (margin,) = retrained_margins(outcome(ours, theirs))
    assert margin.difference == pytest.approx(np.mean(ours) - np.mean(theirs))
    assert margin.low < margin.difference < margin.high
    assert (margin.low > 0 or margin.high < 0) == ("not significant" not in verdict)
    assert verdict in margin.sentence


def test_more_seeds_narrow_the_interval_but_not_below_that_of_the_images() -> None:
    one, many = (retrained_margins(outcome([0.8] * n, [0.7] * n))[0] for n in (1, 9))
    assert one.high - one.low > many.high - many.low > 0


def test_a_failed_training_is_logged_and_deaths_are_bounded(
    caplog: pytest.LogCaptureFixture,
) -> None:
    with pytest.raises(EvaluationError, match=r"every training of the candidates failed"):
        outcome([0.8], [0.7], deaths=100)
    assert caplog.messages[0].startswith(
        "ours, seed 0: its worker process died; the results leave it out"
    )


def test_results_leave_out_failed_trainings() -> None:
    nan = math.nan
    one, theirs = outcome([0.8, nan], [0.7, 0.6])
    assert (one.accuracies, one.seeds) == ((0.8,), (0,))
    assert theirs.accuracies == (0.7, 0.6)
    assert [r.name for r in outcome([0.8], [nan])] == ["ours"]
    with pytest.raises(EvaluationError, match="every training"):
        outcome([nan], [0.7])  # the reference has no candidate left


def test_competitors_are_distinct_with_their_proxy_accuracy(tmp_path: Path) -> None:
    records = search(tmp_path, trials=4)[0].records()
    best = max(records, key=lambda r: r.accuracy)
    baselines = [r for r in records if r.is_baseline]
    chosen = competitors([best, *baselines, best])
    pairs = [
        (competitor.architecture.fingerprint, competitor.reference_of) for competitor in chosen
    ]
    assert len(set(pairs)) == len(pairs)
    by_name = {f"trial {r.trial}": r.accuracy for r in records}
    assert all(
        competitor.proxy_accuracy == by_name[competitor.name]
        for competitor in chosen
        if competitor.name in by_name
    )


def test_given_networks_of_equal_name_get_unique_names() -> None:
    one, other = (load_specification("v2").sample(seed).replace(name="network") for seed in (0, 1))
    chosen = competitors([], [one, other, one])
    assert [e.name for e in chosen if e.family == "given"] == ["network", "network-2"]
    beside = {"network": one, "network-2": other}
    for each in chosen:
        if each.reference_of is not None:
            cost = measure(beside[each.reference_of])["mult_adds"]
            assert measure(each.architecture)["mult_adds"] == pytest.approx(cost, rel=0.05)


def test_networks_of_equal_cost_share_references(tmp_path: Path) -> None:
    """A shared reference is trained once and listed once, but compared with both."""
    one = SMALL.replace(name="one")
    other = Architecture.model_validate(
        SMALL.model_dump() | {"name": "other", "activation": "relu"}
    )
    chosen = competitors([], [one, other, one])
    names = [each.name for each in chosen if each.reference_of == "one"]
    assert names == [each.name for each in chosen if each.reference_of == "other"]
    assert len(names) == 2
    accuracies = {(each.name, seed): 0.5 for each in chosen for seed in range(2)}
    events: list[Progress] = []
    results = retrain(chosen, Answers(accuracies), 2, events.append)
    trained = [str(event.message).partition(",")[0] for event in events]
    assert sorted(trained) == sorted(2 * ["one", "other", *names])
    pairs = [(m.candidate, m.reference) for m in retrained_margins(results)]
    assert pairs == [(candidate, name) for candidate in ("one", "other") for name in names]
    write_retrained(tmp_path, results, {})
    finals = read_retrained(tmp_path)
    assert [len(final.margins) for final in finals if final.name in ("one", "other")] == [2, 2]
    assert [row[0] for row in retrained_rows(finals, finals)] == ["one", *names, "other"]
    whole, (alone,) = retrained_rows(finals, finals), retrained_rows(finals[:1], finals)
    assert alone == whole[0], "an interval is the same on a network's page and beside others"


def test_a_reference_of_equal_cost_may_have_far_fewer_pixels() -> None:
    """No MobileNetV2 of alpha 0.1 and up at 224 px and more is as small as this network."""
    network = load_reference("mobilenet_v3_small").replace(alpha=0.1, resolution=256)
    for reference in equal_cost_references(network):
        ratio = measure(reference.architecture)["mult_adds"] / measure(network)["mult_adds"]
        assert ratio == pytest.approx(1, abs=0.03)


def test_a_given_mobilenet_is_not_a_reference_of_itself() -> None:
    given = load_reference("mobilenet_v2").replace(alpha=0.5, resolution=96)
    families = [each.family for each in competitors([], [given])]
    assert families == ["given", "mobilenet_v1"]


def test_a_second_retraining_adds_networks_and_seeds(tmp_path: Path) -> None:
    def results(name: str, seeds: dict[int, float]) -> list[Retrained]:
        ours, theirs = pair()
        network = ours.architecture.replace(name=name, resolution=32 if name == "a" else 64)
        both = [replace(ours, name=name, architecture=network), replace(theirs, reference_of=name)]
        answers = {(name, seed): accuracy for seed, accuracy in seeds.items()}
        answers |= {("v2", seed): 0.5 * accuracy / accuracy for seed, accuracy in seeds.items()}
        return retrain(both, Answers(answers), 3)

    def written() -> list[tuple[str, tuple[int, ...], object]]:
        found = [f for f in read_retrained(tmp_path) if f.name != "v2"]
        return [(f.candidate, f.seeds, pytest.approx(f.accuracy)) for f in found]

    recipe = {"epochs": 3, "test_images": 100}
    nan = math.nan
    write_retrained(tmp_path, results("a", {0: 0.8, 1: nan, 2: nan}), recipe)
    write_retrained(tmp_path, results("b", {0: 0.7, 1: 0.72, 2: nan}), recipe)
    assert written() == [("a", (0,), 0.8), ("b", (0, 1), 0.71)]
    beside = {f.candidate: f.seeds for f in read_retrained(tmp_path) if f.name == "v2"}
    assert beside == {"a": (0, 1), "b": (0, 1)}, "one network has one set of seeds"
    (first, _) = write_retrained(tmp_path, results("a", {0: nan, 1: 0.9, 2: 1.0}), recipe)
    assert first.seeds == (0, 1, 2), "what is there then is told"
    assert written() == [("b", (0, 1), 0.71), ("a", (0, 1, 2), 0.9)]
    assert all(len(f.margins) == 1 for f in read_retrained(tmp_path) if f.name != "v2")
    write_retrained(tmp_path, results("b", {0: 0.6, 1: nan, 2: nan}), {"epochs": 4})
    assert written() == [("b", (0,), 0.6)], "another recipe begins anew"
    (tmp_path / "retrain.json").write_text('{"settings": {"epochs": 4}, "networks": [{}]}')
    write_retrained(tmp_path, results("a", {0: 0.6, 1: nan, 2: nan}), {"epochs": 4})
    assert written() == [("a", (0,), 0.6)], "so does a damaged file"


@pytest.fixture
def study(images: Path) -> Path:
    folder = images.parent / "tiny"
    store, _ = search(folder, trials=3)
    store.search.set_user_attr("stamp", {"data": str(images), "data_key": "", "seed": 0})
    store.search.set_user_attr("space_yaml", load_specification("tiny").to_yaml())
    return folder


def test_retraining_uses_full_resolution_and_paired_predictions(
    study: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A second time adds seeds, and the test images give one interval of the difference."""
    network = study.parent / "net.yaml"
    network.write_text(SMALL.replace(name="small").to_yaml())
    command = ["retrain", str(study), f"--network={network}", "--epochs=1", "--jobs=1", "--json"]
    for seeds in (1, 2, 1):
        with training_in_this_process(), pytest.raises(SystemExit) as ended:
            main([*command, f"--seeds={seeds}"])
        assert ended.value.code in (0, None)
        capsys.readouterr()
    ours, *others = read_retrained(study)
    assert [each.seeds for each in (ours, *others)] == [(0, 1)] * 3
    assert ours.pixels == SMALL.resolution
    assert ours.images == 20
    for each, accuracy in zip(ours.predictions, ours.accuracies, strict=True):
        assert each.correct.mean() == pytest.approx(accuracy)
    for lead, other in zip(ours.margins, others, strict=True):
        assert lead.startswith(f"small: {100 * (ours.accuracy - other.accuracy):+.1f} points over ")


@pytest.mark.slow
def test_kill_minus_nine_loses_less_than_an_epoch(study: Path) -> None:
    network = study.parent / "net.yaml"
    network.write_text(SMALL.replace(name="small").to_yaml())
    options = f"--epochs {EPOCHS} --seeds 1 --scale 0.5 --jobs 1 --network {network}"
    words = ["retrain", str(study), *options.split()]
    arguments = [sys.executable, "-m", "mbsearch", *words]
    quiet = subprocess.DEVNULL
    running = subprocess.Popen(arguments, stderr=quiet, stdout=quiet, start_new_session=True)
    checkpoints: list[Path] = []
    while not checkpoints:
        time.sleep(0.05)
        assert running.poll() is None
        checkpoints = list(study.glob("retrain/*/*/checkpoint.pt"))
    os.killpg(running.pid, signal.SIGKILL)  # and its workers, in the middle of an epoch
    running.wait()
    done = {path: torch.load(path)["curve"] for path in study.glob("retrain/*/*/checkpoint.pt")}
    assert any(len(curve) < EPOCHS for curve in done.values())
    with training_in_this_process():
        in_this_process(study.parent, *words).passed()
    for path, curve in done.items():
        whole = torch.load(path)["curve"]
        assert len(whole) == EPOCHS
        assert str(whole[: len(curve)]) == str(curve), "what was done was not done again"
    written = json.loads((study / "retrain.json").read_text())
    assert [row["family"] for row in written["networks"]] == [
        "given",
        "mobilenet_v1",
        "mobilenet_v2",
    ]
    assert written["settings"]["test_images"] == 20


def test_mistakes_are_one_message(study: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for words, arguments in {
        "trial 999: expected a trial": ("--trial", "999"),
        "retrain: resolution_scale: expected a number <= 1, got 2": ("--scale", "2"),
        "--network tiny: expected an architecture": ("--network", "tiny"),
        "--weights: expected one --network with it, got 0": ("--weights", "w.pth"),
        "--max-mult-adds: expected": ("--max-mult-adds", "much"),
        "no trained network is within this budget": ("--max-mult-adds", "1k"),
    }.items():
        with pytest.raises(SystemExit) as ended:
            main(["retrain", str(study), *arguments])
        assert ended.value.code == 2
        assert words in capsys.readouterr().err
    empty = study.parent / "empty"
    empty.mkdir()
    create_study(open_journal(empty / JOURNAL, create=True), "tiny")
    with pytest.raises(SystemExit) as ended:
        main(["retrain", str(empty), "--network", "mobilenet_v2"])
    assert ended.value.code == 2
    assert "empty: expected a study with trials, got one without" in capsys.readouterr().err


def test_a_study_without_candidates_is_not_retrained(
    images: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = images.parent / "baselines"
    store, _ = search(folder, trials=0)
    assert all(record.is_baseline for record in store.records())
    store.search.set_user_attr("space_yaml", load_specification("tiny").to_yaml())
    for option in ("--front", "--top=2"):
        with pytest.raises(SystemExit) as ended:
            main(["retrain", str(folder), option])
        assert ended.value.code == 2
        assert "expected a candidate, got MobileNets only" in capsys.readouterr().err


def test_the_answers_to_budgets_are_retrained(study: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """If the answer is a reference, it is compared with the best network of the search."""
    records = [r for r in read_study(study).records() if not r.is_baseline]
    budgets = [r.cost for r in sorted(records, key=lambda r: r.cost)[::2]]
    asked: list[str] = []

    def note(_folder: Path, chosen: Sequence[Competitor], *_: object, **__: object) -> None:
        asked.extend(each.name for each in chosen if each.family == "search")
        raise SpecError("enough")

    monkeypatch.setattr("mbsearch.retraining.run.retrain_study", note)
    options = [f"--max-mult-adds={budget}" for budget in budgets]
    with pytest.raises(SystemExit):
        main(["retrain", str(study), *options])
    findings = Findings(read_study(study).records())
    found = [answer(findings, Budget(mult_adds=budget)) for budget in budgets]
    names = [each.searched.other.record.label if each.searched else each.name for each in found]
    assert asked == list(dict.fromkeys(names))
