from __future__ import annotations

import json
import logging
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from fake_search import search
from noise_images import write_noise_images
from PIL import Image
from reports.command_line import in_this_process
from reports.in_process import InThisProcess, training_in_this_process
from small_donor import SPACE, few, write_donor
from torch import Tensor

from mbsearch.audit import run as audit_module
from mbsearch.audit.run import _trained_by, audit
from mbsearch.cli import main
from mbsearch.config.budgets import Budget
from mbsearch.config.families import scaled_reference
from mbsearch.config.proxy_settings import Proxy
from mbsearch.config.retrain_settings import Retrain
from mbsearch.config.specification import (
    SearchSpecification,
    load_specification,
    read_specification,
)
from mbsearch.cost import measure
from mbsearch.data.sources import ImageSource, load_source
from mbsearch.errors import StorageError
from mbsearch.evaluation import Scoring, by_training, default_space
from mbsearch.execution.protocol import Task
from mbsearch.progress import Progress
from mbsearch.retraining import run as retrain_module
from mbsearch.space.architecture import Architecture
from mbsearch.space.blocks import InvertedResidual
from mbsearch.space.size import Size
from mbsearch.space.yaml_source import parse_document
from mbsearch.study.audit_file import Audit
from mbsearch.study.identity import difference, with_defaults
from mbsearch.study.images_record import KnownImages
from mbsearch.study.opening import read_study
from mbsearch.study.records import Evaluation, Start, StartKind
from mbsearch.study.store import DONOR, StudyStore
from mbsearch.study_run import _as_stored, _identity, _stored_settings, _with_identity
from mbsearch.study_run import run as run_study
from mbsearch.training import proxy as proxy_module
from mbsearch.training.donors.files import Donor, TrainedDonor, load_donor
from mbsearch.training.donors.inheritance import donated, inherited_share
from mbsearch.training.network import build, last_norms, skeleton
from mbsearch.training.preparations import SUPERNET, Preparations, kept_start
from mbsearch.training.pretrained import Pretrained, long_recipe, screening_recipe
from mbsearch.training.proxy import ProxyTraining
from mbsearch.training.resumable_training import prepare
from mbsearch.training.supernet import supernet_training
from mbsearch.training.supernet.shared_weights import part, slices
from mbsearch.training.supernet.supernet_training import SupernetTraining, load_shared

CPU = torch.device("cpu")
LITE0 = "efficientnet_lite0"
FRESH, INHERITED = Start(StartKind.FRESH, 0.0), Start(StartKind.INHERITED, 0.9)
GIVEN, SHARED = Start(StartKind.DONOR, 0.9), Start(StartKind.SUPERNET, 0.9)
pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module", autouse=True)
def small(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """A cache of its own, and supernets that are begun in a second."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MBSEARCH_CACHE", str(tmp_path_factory.mktemp("cache")))
        patch.setattr(supernet_training, "_SHAPES_FROM", 40)
        yield


@pytest.fixture(scope="module")
def other(tmp_path_factory: pytest.TempPathFactory) -> Donor:
    """A donor with the same network and other weights."""
    return write_donor(tmp_path_factory.mktemp("other"), seed=1)


@pytest.fixture(scope="module")
def grey(tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = tmp_path_factory.mktemp("grey")
    rng = np.random.default_rng(0)
    for split in ("train", "val", "test"):
        for name in ("a", "b"):
            (folder / split / name).mkdir(parents=True)
            for i in range(4):
                pixels = rng.integers(0, 255, (16, 16), dtype=np.uint8)
                Image.fromarray(pixels).save(folder / split / name / f"{i}.png")
    return str(folder)


def supernet(
    space: SearchSpecification, source: ImageSource, trained: TrainedDonor | None, seed: int = 0
) -> SupernetTraining:
    return SupernetTraining(space, source, seed, CPU, trained)


def two_classes(networks: Sequence[Architecture]) -> list[Architecture]:
    return [network.replace(num_classes=2) for network in networks]


# The supernet


@pytest.mark.parametrize("name", ["few", "v2", "photos"])
def test_a_supernet_starts_with_the_donors_weights_of_every_candidate(
    name: str, source: ImageSource, trained: TrainedDonor
) -> None:
    """Also where a block that the donor lacks shares weights with one that it has."""
    space = few() if name == "few" else load_specification(name)
    weights = supernet(space, source, trained).weights
    shares = []
    for network in two_classes([space.sample(seed) for seed in range(20)]):
        module = skeleton(network)
        given, views = (
            donated(network, module, trained),
            slices(network, module, weights, centred=True),
        )
        for key in views.keys() & given.keys():
            both = zip(views[key].shape, given[key].shape, strict=True)
            common = [min(sizes) for sizes in both]
            assert torch.equal(part(views[key], common), part(given[key], common)), key
        shares.append(inherited_share(module, given))
    assert max(shares) > 0.3, "the test is blind"


def test_residual_blocks_that_the_donor_lacks_start_as_the_identity(
    source: ImageSource, trained: TrainedDonor
) -> None:
    weights = supernet(few(), source, trained).weights
    lacking = 0
    for network in two_classes([few().sample(seed) for seed in range(20)]):
        module = skeleton(network)
        given, views = (
            donated(network, module, trained),
            slices(network, module, weights, centred=True),
        )
        for name in last_norms(module):
            zero = bool((views[f"{name}.weight"] == 0).all())
            assert zero == (f"{name}.weight" not in given)
            lacking += zero
    assert lacking > 0, "the test is blind"
    fresh = supernet(few(), source, None).weights
    assert all(bool((w == 1).all()) for name, w in fresh.items() if name.endswith("norm.weight"))


def test_smaller_kernels_are_the_centre_of_larger_ones(
    source: ImageSource, trained: TrainedDonor
) -> None:
    weights = supernet(few(), source, trained).weights
    networks = two_classes([few().sample(seed) for seed in range(20)])
    found = {}
    for network in networks:
        module = skeleton(network)
        views = slices(network, module, weights, centred=True)
        block = network.stages[1]
        assert isinstance(block, InvertedResidual)
        found[block.kernel] = views["stages.1.0.depthwise.conv.weight"]
    thin = min(len(view) for view in found.values())
    assert torch.equal(found[3][:thin], found[5][:thin, :, 1:4, 1:4])
    assert found[3].data_ptr() != found[5].data_ptr()
    with torch.no_grad():
        found[3].zero_()
    assert bool((found[5][:thin, :, 1:4, 1:4] == 0).all()), "they share their weights"


def test_paths_are_within_the_budgets(source: ImageSource, trained: TrainedDonor) -> None:
    costs = sorted(measure(few().sample(seed))["mult_adds"] for seed in range(40))
    budget = Budget(mult_adds=costs[20])
    space = few(budgets=(budget,), baselines=())
    drawn = [measure(supernet(space, source, trained, i)._candidate()) for i in range(20)]
    assert all(0.25 <= budget.used_share(each) <= 1 for each in drawn)
    free = [measure(supernet(space, source, None, i)._candidate()) for i in range(20)]
    assert any(budget.used_share(each) > 1 for each in free), "without a donor as before"


def test_a_supernet_of_another_donor_is_an_error(
    source: ImageSource, trained: TrainedDonor, other: Donor, tmp_path: Path
) -> None:
    supernet(few(), source, trained).save(tmp_path / SUPERNET)
    supernet(few(), source, trained).restore(tmp_path / SUPERNET)
    for foreign in (load_donor(other), None):
        with pytest.raises(StorageError, match="expected the supernet of this space"):
            supernet(few(), source, foreign).restore(tmp_path / SUPERNET)
    # From scratch it equals the supernet of versions without donors.
    assert not {"donor", "teacher"} & supernet(few(), source, None)._made_by().keys()


# The start of a network


@pytest.fixture(scope="module")
def shared(
    source: ImageSource, trained: TrainedDonor, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    path = tmp_path_factory.mktemp("shared") / SUPERNET
    assert prepare(supernet(few(), source, trained), path)
    return path


def begun(
    pretrained: Pretrained, network: Architecture, origin: str = "search"
) -> tuple[Start, dict[str, Tensor]]:
    module = build(network, zero_init_residual=True, seed=3)
    start = pretrained.begin(module, network, origin)
    return start, module.state_dict()


def test_a_network_with_a_small_inherited_share_starts_from_random_weights(
    donor: Donor, shared: Path
) -> None:
    network = scaled_reference("mobilenet_v1", 0.25, 64).replace(num_classes=2)
    for pretrained in (Pretrained(donor), Pretrained(donor, shared)):
        start, state = begun(pretrained, network, "mobilenet_v1")
        assert start == FRESH
        fresh = build(network, zero_init_residual=True, seed=3).state_dict()
        assert all(torch.equal(state[name], fresh[name]) for name in fresh)


def test_the_donors_own_networks_start_as_the_donor(
    donor: Donor, trained: TrainedDonor, shared: Path
) -> None:
    network = scaled_reference(LITE0, 0.1, 64).replace(num_classes=2)
    pretrained = Pretrained(replace(donor, family=LITE0), shared)
    start, state = begun(pretrained, network, LITE0)
    module = skeleton(network)
    given = donated(network, module, trained)
    assert start == Start(StartKind.DONOR, inherited_share(module, given))
    assert 0.9 < start.share < 1
    assert all(torch.equal(state[name], values) for name, values in given.items())


def test_candidates_start_from_the_supernet_and_without_one_from_the_donor(
    donor: Donor, trained: TrainedDonor, shared: Path
) -> None:
    weights = load_shared(shared)
    for network in two_classes([few().sample(seed) for seed in range(4)]):
        module = skeleton(network)
        given = donated(network, module, trained)
        share = inherited_share(module, given)
        start, state = begun(Pretrained(donor), network)
        assert start == Start(StartKind.INHERITED, share)
        assert all(torch.equal(state[name], values) for name, values in given.items())
        start, state = begun(Pretrained(donor, shared), network)
        assert start == Start(StartKind.SUPERNET, share)
        views = slices(network, module, weights, centred=True)
        assert all(torch.equal(state[name], values) for name, values in views.items())
        statistics = {name: v for name, v in given.items() if "running" in name}
        assert statistics
        assert all(torch.equal(state[name], values) for name, values in statistics.items())


def test_a_trial_inherits_only_the_weights_that_its_start_names(
    images: str, donor: Donor, shared: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Donors' networks are fine-tuned as they are, also where trials share weights."""
    monkeypatch.setattr(proxy_module, "inherit", lambda *_: pytest.fail("took over a supernet"))
    proxy = few().settings.proxy.from_donor()
    pretrained = Pretrained(replace(donor, family=LITE0), shared)
    evaluator = ProxyTraining(proxy, images, 0, "cpu", shared=shared, pretrained=pretrained)
    lite0 = scaled_reference(LITE0, 0.1, 64)
    v1 = scaled_reference("mobilenet_v1", 0.1, 64)
    expected = {
        (lite0, LITE0): StartKind.DONOR,
        (v1, "mobilenet_v1"): StartKind.FRESH,
        (few().sample(0), "search"): StartKind.SUPERNET,
    }
    for (network, origin), kind in expected.items():
        evaluation = evaluator.evaluate(Task(network, 0, origin=origin)).evaluation
        assert evaluation.start is not None
        assert evaluation.start.kind is kind
        assert Evaluation.from_dict(json.loads(json.dumps(evaluation.to_dict()))) == evaluation
        rate = {StartKind.DONOR: 4 * 0.002, StartKind.FRESH: 0.012, StartKind.SUPERNET: 0.002}
        assert evaluation.recipe["learning_rate"] == pytest.approx(rate[kind])
        assert (evaluation.evaluator == "training") == (kind is StartKind.FRESH)


def test_a_checkpoint_keeps_the_start_of_a_candidate(
    images: str, donor: Donor, shared: Path
) -> None:
    proxy = few().settings.proxy.from_donor().model_copy(update={"epochs": 2})
    evaluator = ProxyTraining(proxy, images, 0, "cpu", pretrained=Pretrained(donor, shared))
    whole = evaluator.evaluate(Task(few().sample(0), 0)).evaluation
    half = evaluator.evaluate(Task(few().sample(0), 0, stop_epoch=1))
    rest = evaluator.evaluate(Task(few().sample(0), 0, checkpoint=half.checkpoint)).evaluation
    assert [e.train_loss for e in rest.curve] == [e.train_loss for e in whole.curve]
    assert rest.start == whole.start


# Recipes


def test_the_short_recipe_suits_the_start() -> None:
    proxy = Proxy(train_images=40, shift=0.1).from_donor()
    assert screening_recipe(proxy, SHARED) == proxy
    scratch = screening_recipe(proxy, FRESH)
    assert (scratch.evaluator, scratch.learning_rate, scratch.epochs) == ("training", 0.012, 4)
    assert scratch.resolution_scale == Proxy().resolution_scale
    assert scratch.shift == 0.1
    for start in (INHERITED, GIVEN):
        changed = screening_recipe(proxy, start)
        assert changed.learning_rate == 4 * proxy.learning_rate
        assert changed.model_copy(update={"learning_rate": proxy.learning_rate}) == proxy


def test_the_long_recipe_suits_the_start() -> None:
    recipe, thin = Retrain(tuning_rate=0.003), scaled_reference(LITE0, 0.5, 64)
    whole = thin.replace(alpha=1.0)
    assert long_recipe(recipe, FRESH, thin) == recipe
    for start in (INHERITED, GIVEN, SHARED):
        assert long_recipe(recipe, start, thin).learning_rate == 0.006
        assert long_recipe(recipe, start, whole).learning_rate == 0.003
    # Few images: smaller batches, and rates with them.
    assert long_recipe(Retrain().sized(1000), SHARED, whole).learning_rate == 0.002


@pytest.mark.parametrize(
    "settings",
    [
        "",
        "proxy: {epochs: 4}",
        "proxy: {evaluator: training}",
        "proxy: {growth: 0.0, supernet: {steps: 5000}, resolution_scale: 0.25}",
    ],
)
def test_a_proxy_with_a_donor_is_the_same_when_its_file_is_read_again(
    settings: str, source: ImageSource, donor: Donor, tmp_path: Path
) -> None:
    text = f"{SPACE.split('baselines:')[0]}\nweights: {donor.path}\n{settings}\n"

    def resolved(text: str) -> SearchSpecification:
        space = read_specification(parse_document(text, "few.yaml"))
        return Preparations.planned(space, source, 0, "cpu", tmp_path).space

    first = resolved(text)
    again = resolved(first.to_yaml())
    assert again.settings.proxy == first.settings.proxy
    assert again.to_yaml() == first.to_yaml()
    if "epochs" in settings:
        assert first.settings.proxy.epochs == 4
    assert first.settings.proxy.evaluator == ("training" if "training" in settings else "supernet")


# Identity of a study


def scored(data: str, weights: str, folder: Path, **settings: object) -> Scoring:
    return by_training(few(weights=weights, **settings), data, 0, "cpu", folder)


def test_other_weights_are_another_study_and_another_audit(
    images: str, donor: Donor, other: Donor, tmp_path: Path
) -> None:
    paths = [str(donor.path), str(other.path), "none"]
    for identity in (_identity, _trained_by):
        found = [identity(scored(images, weights, tmp_path), 0) for weights in paths]
        again = identity(scored(images, paths[0], tmp_path / "elsewhere"), 0)
        assert again == found[0], "by their content"
        for i, one in enumerate(found):
            assert all(one != each for each in found[i + 1 :])
    stamps = [_identity(scored(images, weights, tmp_path), 0) for weights in paths]
    for before, after in ((0, 1), (0, 2), (2, 0)):
        words = difference(with_defaults(stamps[before]), stamps[after])
        assert words is not None
    assert difference(with_defaults(stamps[0]), stamps[1]) == (
        f"weights was {donor.key!r} and is {other.key!r}"
    )
    teacher = few().settings.teacher.model_copy(update={"temperature": 5.0})
    changed = _identity(scored(images, paths[0], tmp_path, teacher=teacher), 0)
    assert difference(stamps[0], changed) == "teacher.temperature was 2.0 and is 5.0"
    scratch = _identity(scored(images, "none", tmp_path, teacher=teacher), 0)
    assert difference(stamps[2], scratch) is None, "from scratch nobody learns from it"


def test_other_weights_are_another_retraining(
    images: str, donor: Donor, other: Donor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(retrain_module, "retrain", lambda *_: [])
    monkeypatch.setattr(retrain_module, "training_workers", lambda *_: nullcontext())

    def key(weights: str, *, teacher: bool = True, **settings: object) -> str:
        resolved = scored(images, weights, tmp_path, **settings).space.settings
        retrain_module.retrain_study(
            tmp_path, [], resolved, known=KnownImages(images, "", None), split_seed=0, jobs=1,
            device="cpu", teacher=teacher,
        )  # fmt: skip
        written = json.loads((tmp_path / "retrain.json").read_text())
        return str(written["settings"]["folder"])

    first = key(str(donor.path))
    assert key(str(donor.path)) == first
    alone = few().settings.proxy.model_copy(update={"evaluator": "training"})
    keys = [
        first,
        key(str(other.path)),
        key("none"),
        key(str(donor.path), teacher=False),
        key(str(donor.path), proxy=alone),
    ]
    assert len(set(keys)) == len(keys)


def test_a_start_is_kept_with_its_evaluation(tmp_path: Path) -> None:
    evaluation = Evaluation(
        0.5, 1.0, 1.0, 0, Size.square(32), (), "supernet", {}, "cpu", start=SHARED
    )
    kept = json.loads(json.dumps(evaluation.to_dict()))
    assert kept["start"] == {"kind": "supernet", "share": 0.9}
    assert Evaluation.from_dict(kept) == evaluation
    del kept["start"]
    assert Evaluation.from_dict(kept).start is None, "of an older version"


@pytest.fixture
def scratch_study(images: str, tmp_path: Path) -> StudyStore:
    """A study of an older version, which knew no donors, on photos."""
    space = few().with_classes(2)
    store, _ = search(tmp_path / "study", trials=1, space=space)
    stamp = dict(_identity(scored(images, "none", tmp_path), 0))
    del stamp["weights"], stamp["teacher"]
    store.search.set_user_attr("space_yaml", space.to_yaml())
    store.search.set_user_attr("stamp", stamp)
    return store


def test_a_study_from_scratch_resumes_from_scratch(
    scratch_study: StudyStore,
    images: str,
    donor: Donor,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.INFO, "mbsearch")
    folder, old = tmp_path / "study", read_study(tmp_path / "study").settings()["stamp"]
    space = _as_stored(few(), folder, _stored_settings(folder, None))
    assert space.settings.weights == "none"
    resumed = by_training(space, images, 0, "cpu", folder)
    assert (resumed.weights, resumed.pretrained, resumed.train_shared) == (None, None, None)
    assert difference(with_defaults(old), _identity(resumed, 0)) is None
    assert _with_identity(scratch_study, folder, _identity(resumed, 0)) is scratch_study
    with pytest.raises(StorageError, match="this study was made by other settings") as error:
        _with_identity(scratch_study, folder, _identity(scored(images, str(donor.path), folder), 0))
    assert "\n" not in str(error.value)
    # The whole path of the command, until the search.
    planned = run_study(few(), trials=2, folder=folder, data=images, device="cpu", dry_run=True)
    assert planned.identity["weights"] is None
    assert not any("EfficientNet-Lite0, trained" in line for line in caplog.messages)


def test_a_study_with_a_donor_resumes_with_it(images: str, donor: Donor, tmp_path: Path) -> None:
    scoring = scored(images, str(donor.path), tmp_path)
    store, _ = search(tmp_path / "study", trials=0, space=scoring.space)
    store.search.set_user_attr("space_yaml", scoring.space.to_yaml())
    # Killed before it was whole, it knows no donor, and the images choose again.
    folder = tmp_path / "study"
    early = _as_stored(few(), folder, _stored_settings(folder, None))
    assert early.settings.weights == "auto"
    store.search.set_user_attr("stamp", _identity(scoring, 0))
    space = _as_stored(few(), folder, _stored_settings(folder, None))
    assert space.settings.weights == str(donor.path)
    resumed = by_training(space, images, 0, "cpu", tmp_path)
    assert difference(with_defaults(_identity(scoring, 0)), _identity(resumed, 0)) is None


def test_retraining_has_the_start_of_the_study(
    images: str, donor: Donor, source: ImageSource, tmp_path: Path
) -> None:
    for evaluator in ("supernet", "training"):
        space = few(weights=str(donor.path))
        proxy = space.settings.proxy.starting_from(evaluator)
        scoring = by_training(space.with_settings({"proxy": proxy}), images, 0, "cpu", tmp_path)
        kept = read_specification(parse_document(scoring.space.to_yaml(), "space.yaml")).settings
        assert kept_start(kept, source, tmp_path) == scoring.pretrained
        alone = kept_start(kept, source, tmp_path, teacher=False)
        assert scoring.pretrained is not None
        assert alone == replace(scoring.pretrained, teacher_logits=None)
    assert kept_start(few(weights="none").settings, source, tmp_path) is None


# The command and its images


def refused(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    with pytest.raises(SystemExit) as ended:
        main(["run", *arguments])
    assert ended.value.code == 2
    return capsys.readouterr().err


def test_an_unknown_donor_is_a_one_line_error(
    images: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: Any
) -> None:
    monkeypatch.chdir(tmp_path)
    for more in ((), ("--space", "tiny"), ("--space", "photos", "--dry-run")):
        said = refused(capsys, "--weights", "efficientnet_lite", "--data", images, *more)
        assert "expected efficientnet_lite0 or a file of weights, got no such file" in " ".join(
            said.split()
        )
        assert "Traceback" not in said
    said = refused(capsys, "--space", "tiny", "--weights", "none", "--table", "accuracies.csv")
    assert "--weights: expected no --table with it" in " ".join(said.split())
    assert list(tmp_path.iterdir()) == [], "nothing is made"


def test_grey_images_start_from_scratch(grey: str, tmp_path: Path) -> None:
    assert not load_source(grey, seed=0).coloured
    scoring = by_training(few(), grey, 0, "cpu", tmp_path)
    assert (scoring.weights, scoring.space.settings.weights) == (None, "none")
    assert not any("start" in line for line in scoring.facts)
    embedded = by_training(few(), "embedded", 0, "cpu", tmp_path)
    assert (embedded.weights, embedded.space.settings.weights) == (None, "none")


def test_grey_images_use_a_donor_on_request(grey: str, donor: Donor, tmp_path: Path) -> None:
    preparations = Preparations.planned(
        few(weights=str(donor.path)), load_source(grey, seed=0), 0, "cpu", tmp_path
    )
    assert preparations.run(preparations.space)
    scoring = by_training(preparations.space, grey, 0, "cpu", tmp_path)
    evaluation = scoring.evaluator.evaluate(Task(few().sample(0), 0)).evaluation
    assert evaluation.start is not None
    assert evaluation.start.kind is StartKind.SUPERNET


def test_photos_use_the_packaged_donor(images: str, tmp_path: Path) -> None:
    scoring = by_training(few(), images, 0, "cpu", tmp_path)
    assert scoring.space.settings.weights == LITE0
    assert scoring.pretrained is not None
    assert scoring.weights == scoring.pretrained.donor.key
    assert scoring.facts[-1] == (
        "start: EfficientNet-Lite0, trained on ImageNet (--weights none trains from scratch)"
    )


def test_the_default_space_suits_the_images(images: str, grey: str, donor: Donor) -> None:
    assert default_space(None, None) == default_space(None, "auto") == "v2"
    assert default_space(images, None) == default_space(images, "auto") == "photos"
    assert default_space(images, "none") == default_space(grey, None) == "v2"
    assert default_space(grey, str(donor.path)) == default_space(None, LITE0) == "photos"


# Audit


@pytest.mark.slow
def test_an_audit_trains_as_the_study_does(
    images: str, donor: Donor, other: Donor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    completed: list[int] = []
    evaluators: list[ProxyTraining] = []

    def noted(evaluator: ProxyTraining, *arguments: Any) -> InThisProcess:
        evaluators.append(evaluator)
        return InThisProcess(evaluator, *arguments)

    monkeypatch.setattr(audit_module, "LocalProcesses", noted)

    def note(event: Progress) -> None:
        if event.phase == "audit" and event.message is None:
            completed.append(event.completed)

    def audited(weights: str, folder: str) -> Audit:
        return audit(
            few(weights=weights), folder=tmp_path / folder, networks=6, references=1, seeds=1,
            epochs=1, data=images, jobs=1, device="cpu",
            on_progress=note,
        )  # fmt: skip

    found = audited(str(donor.path), "one")
    of_study = _identity(scored(images, str(donor.path), tmp_path), 0)
    assert found.identity == {key: of_study[key] for key in ("data_key", "space", "proxy")}
    assert (tmp_path / "one" / SUPERNET).exists()
    short, long = evaluators
    assert long.pretrained == short.pretrained
    for key in ("resolution_scale", "learning_rate", "batch_size"):
        assert getattr(long.proxy, key) == getattr(short.proxy, key), key
    assert audited(str(donor.path), "one") == found
    with pytest.raises(StorageError, match="expected the teacher of this space"):
        audited(str(other.path), "one")
    scratch = audited("none", "one")
    assert scratch.identity is not None
    assert scratch.identity["proxy"]["evaluator"] == "training"
    assert completed == [0, 14, 0], "trainings of other weights are saved apart"


# A whole search


SEARCHED = f"""{SPACE}weights: {LITE0}
budgets: [8M]
"""
SEARCH = [
    "run", "--space", "few.yaml", "--data", "images",
    "--trials", "2", "--jobs", "1", "--device", "cpu",
]  # fmt: skip


def called(*arguments: str) -> str:
    with training_in_this_process():
        return in_this_process(Path.cwd(), *arguments).passed()


def kill_once_written(file: Path) -> None:
    """Run the search and kill it as soon as it has written a file."""
    running = subprocess.Popen(
        [sys.executable, "-m", "mbsearch", *SEARCH],
        stderr=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        start_new_session=True,
    )
    while not file.exists():
        time.sleep(0.05)
        assert running.poll() is None
    os.killpg(running.pid, signal.SIGKILL)
    running.wait()


@pytest.mark.slow
def test_a_killed_search_with_a_donor_resumes_to_its_answer(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    write_noise_images(Path("images"), {"train": 20, "val": 10, "test": 5})
    long = SEARCHED.replace("steps: 3", "steps: 105")
    Path("few.yaml").write_text(long)
    folder = Path("results/few")
    kill_once_written(folder / SUPERNET)
    steps = len(torch.load(folder / SUPERNET, weights_only=True)["losses"])
    assert steps == 100, "the test is blind"
    teacher = (folder / "teacher.pt").stat().st_mtime_ns
    said = called(*SEARCH)
    assert "start: EfficientNet-Lite0, trained on ImageNet (--weights none" in said
    assert "supernet trained: 105 steps" in said
    assert (folder / "teacher.pt").stat().st_mtime_ns == teacher, "it is trained once"

    records = read_study(folder).records()
    starts = {(r.origin, r.start and r.start.kind) for r in records}
    assert starts == {
        (LITE0, StartKind.DONOR),
        ("mobilenet_v1", StartKind.FRESH),
        ("search", StartKind.SUPERNET),
    }
    final = next(r for r in records if r.origin == "search" and r.finals)
    assert final.finals[0].start == final.start
    settings = read_study(folder).settings()
    assert settings[DONOR]["title"] == "EfficientNet-Lite0, trained on ImageNet"
    assert settings[DONOR]["key"] == settings["stamp"]["weights"]

    status = ["status", str(folder), "--budget", "8M", "--json"]
    answer = json.loads(called(*status))
    compared = {each["name"]: each["start"] for each in (answer, *answer["margins"])}
    assert compared["EfficientNet-Lite0 0.1/64"] == "donor"
    if answer["origin"] != LITE0:
        assert "over EfficientNet-Lite0 0.1/64 fine-tuned at " in answer["sentence"]
    (card,) = folder.glob("answer*/README.md")
    text = card.read_text()
    assert "| Teacher | the donor, fine-tuned on the study's images at 32 px" in text

    said = called(
        "retrain", str(folder), "--seeds", "1", "--jobs", "1",
        "--device", "cpu",
    )  # fmt: skip
    assert "test accuracy" in said
    retrained = json.loads((folder / "retrain.json").read_text())["settings"]
    assert retrained["weights"] == settings[DONOR]["key"]
    assert retrained["supernet"]
    assert retrained["teacher"]["pixels"] == 32
