"""Finals inside a search: when they start, what they take, how they resume."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Collection
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from fake_evaluator import FakeEvaluator

from mbsearch.config.budgets import Budget
from mbsearch.config.finals_settings import Finals
from mbsearch.config.promotion_settings import Promotion
from mbsearch.config.proxy_settings import Proxy
from mbsearch.config.specification import SearchSpecification, read_specification
from mbsearch.execution.local import LocalProcesses
from mbsearch.progress import Progress
from mbsearch.search.driver import Driver, Images
from mbsearch.search.factory import make_sampler
from mbsearch.search.finals import FIRST_FINAL, FinalRounds, strongest
from mbsearch.search.finals_plan import Plan, TrainingTime
from mbsearch.search.pilot import Pilot, first_length, run_pilot, well_above_chance
from mbsearch.space.size import Size
from mbsearch.space.yaml_source import parse_document
from mbsearch.study.journal import open_journal
from mbsearch.study.opening import JOURNAL, read_study
from mbsearch.study.records import Epoch, Evaluation, State, TrialRecord
from mbsearch.study.store import StudyStore, create_study
from mbsearch.study.training_files import FinalFiles

SPACE = """
name: small
resolution: {choices: [64, 96, 128, 160]}
alpha: {choices: [0.25, 0.5, 0.75, 1.0]}
stem: {channels: 16}
stages:
  - {block: separable, channels: 16}
  - {block: inverted_residual, channels: 24, stride: 2, repeats: {choices: [1, 2]},
     expansion: {choices: [3, 6]}}
head: {channels: 128}
budgets: [3M, 10M]
baselines:
  - {reference: mobilenet_v2, alpha: [0.1], resolution: [64, 96]}
  - {reference: mobilenet_v1, alpha: [0.1], resolution: [96]}
promotion: {share: 0}
finals: {minutes: 1, networks: 3, epochs: 4}
"""
TRIALS = 20


def small(**finals: float) -> SearchSpecification:
    space = read_specification(parse_document(SPACE, "small.yaml"))
    return space.with_settings({"finals": space.settings.finals.model_copy(update=finals)})


def search(
    folder: Path,
    space: SearchSpecification,
    evaluator: FakeEvaluator | None = None,
    trials: int | None = TRIALS,
    seen: list[Progress] | None = None,
    seconds: float = math.inf,
) -> StudyStore:
    folder.mkdir(exist_ok=True)
    store = create_study(open_journal(folder / JOURNAL, create=True), space.name)
    store.search.sampler = make_sampler("random", space, seed=0)
    progress = [] if seen is None else seen
    with LocalProcesses(evaluator or FakeEvaluator(seconds=0.01), 1) as executor:
        Driver(
            store,
            space,
            executor,
            trials,
            0,
            progress.append,
            time.monotonic() + seconds,
            folder=folder,
            images=Images(1, 500),
        ).run()
    return store


def test_finals_of_every_budget_start_early_and_count_references(tmp_path: Path) -> None:
    seen: list[Progress] = []
    space = small()
    records = search(tmp_path, space, seen=seen).records()
    lines = [p.message for p in seen if p.message is not None]
    first = next(i for i, line in enumerate(lines) if ", final)" in line)
    searched = sum("(search)" in line for line in lines[:first])
    assert FIRST_FINAL * TRIALS <= searched < 0.6 * TRIALS
    with_finals = [r for r in records if r.finals]
    for budget in space.settings.budgets:
        within = [r for r in with_finals if budget.excess(r.costs) is None]
        assert any(r.is_baseline for r in within)
        assert sum(not r.is_baseline for r in within) >= 2
    for record in with_finals:
        (final,) = record.finals
        assert final.predictions is not None
        assert final.predictions.correct.mean() == pytest.approx(final.accuracy, abs=0.01)
        assert FinalFiles(tmp_path).weights(record.fingerprint, final.seed).is_file()
        assert not FinalFiles(tmp_path).checkpoint(record.fingerprint, final.seed).exists()


def test_the_time_left_includes_the_finals_that_have_not_begun(tmp_path: Path) -> None:
    seen: list[Progress] = []
    search(tmp_path / "with", small(), seen=seen)
    ended = [p for p in seen if p.message is not None]
    left = [p.seconds_left for p in ended if p.seconds_left is not None]
    assert len(left) >= len(ended) - 3, "an estimate after three trainings"
    assert left[0] >= 60, "finals may take a minute"
    assert left[-1] < 60, "and have taken part of it"
    without: list[Progress] = []
    search(tmp_path / "without", small(minutes=0), seen=without)
    assert all(p.seconds_left is None or p.seconds_left < 60 for p in without)


def test_more_trials_or_minutes_bring_further_finals(tmp_path: Path) -> None:
    """The same number of trials brings none."""

    def finals(space: SearchSpecification, trials: int) -> set[int]:
        records = search(tmp_path, space, FakeEvaluator(seconds=0.01), trials).records()
        return {record.trial for record in records if record.finals}

    few = small(networks=100, minutes=0.005)
    first = finals(few, TRIALS)
    assert finals(few, TRIALS) == first
    second = finals(few, 2 * TRIALS)
    assert first < second
    assert max(second) > max(first), "new candidates have finals, too"
    assert second < finals(small(networks=100, minutes=0.01), 2 * TRIALS)


def test_each_run_that_time_alone_bounds_has_finals_of_its_own(tmp_path: Path) -> None:
    space = small(networks=100, minutes=0.02)

    def finals() -> set[int]:
        seconds = 2.5
        store = search(tmp_path, space, FakeEvaluator(seconds=0.05), None, seconds=seconds)
        return {record.trial for record in store.records() if record.finals}

    first = finals()
    assert first < finals()


def test_promotion_takes_place_where_a_budget_has_no_finals(tmp_path: Path) -> None:
    def promoted(name: str, minutes: float) -> bool:
        space = small(minutes=minutes)
        space = space.with_settings({"promotion": Promotion(longer=2)})
        store = search(tmp_path / name, space, trials=3 * TRIALS)
        return any(record.promotion is not None for record in store.records())

    assert not promoted("finals", 1.0)
    assert promoted("no-finals", 0.0)
    assert promoted("too-short", 1e-6), "no final fits the time"


def test_nothing_above_all_budgets_is_trained(tmp_path: Path) -> None:
    space = small()
    records = search(tmp_path, space).records()
    assert all(r.mult_adds <= 10_000_000 for r in records)
    assert all(space.settings.excess(r.costs) is None for r in records)


def test_finals_of_no_minutes_are_off(tmp_path: Path) -> None:
    assert not any(r.finals for r in search(tmp_path, small(minutes=0.0)).records())


def accuracies(store: StudyStore) -> dict[int, list[float]]:
    """Of finals, by trial."""
    return {trial: [e.accuracy for e in each] for trial, each in store.finals().items()}


def test_a_search_cut_off_in_a_final_resumes_from_its_last_epoch(tmp_path: Path) -> None:
    """The same finals as those of a search that was not interrupted."""

    class CutError(Exception):
        pass

    class Cut(list[Progress]):
        def append(self, progress: Progress) -> None:
            super().append(progress)
            kept = list((tmp_path / "cut").glob("finals/*/checkpoint.pt"))
            if any(int(path.read_bytes()) == 2 for path in kept):
                raise CutError

    whole = search(tmp_path / "whole", small())
    with pytest.raises(CutError):
        search(tmp_path / "cut", small(), seen=Cut())
    assert list((tmp_path / "cut").glob("finals/*/checkpoint.pt"))
    again = search(tmp_path / "cut", small())
    assert accuracies(again) == accuracies(whole)
    assert not list((tmp_path / "cut").glob("finals/*/checkpoint.pt"))


def test_a_failed_final_is_not_tried_again(tmp_path: Path) -> None:
    evaluator = FakeEvaluator(fails_finals=True)
    records = search(tmp_path, small(), evaluator).records()
    assert not any(r.finals for r in records)
    assert all(r.state is State.COMPLETE for r in records)


def test_the_same_seed_gives_the_same_finals(tmp_path: Path) -> None:
    first, second = (search(tmp_path / name, small()).records() for name in "ab")
    assert [r.trial for r in first if r.finals] == [r.trial for r in second if r.finals]


def record(trial: int, mult_adds: int, seconds: float, accuracy: float = 0.5) -> TrialRecord:
    space = small()
    network = space.decode(space.complete({})).replace(resolution=100)
    evaluation = Evaluation(
        accuracy=accuracy,
        validation_loss=1.0,
        seconds=seconds,
        seed=trial,
        pixels=Size.square(100),
        curve=(Epoch(1.0, 1.0, accuracy, seconds),),
        evaluator="fake",
        recipe={"train_images": 1000},
        device="none",
    )
    costs = {"mult_adds": mult_adds, "params": 1}
    return TrialRecord(trial, "search", State.COMPLETE, network, costs, {}, evaluation)


def rounds(
    minutes: float | None,
    budgets: tuple[int, ...],
    plan: Plan | None = None,
    trials: int | None = None,
    clock: Callable[[], float] = time.monotonic,
) -> FinalRounds:
    return FinalRounds(
        Finals(minutes=minutes),
        [Budget(mult_adds=each) for each in budgets],
        images=2000,
        share=lambda _epochs: 1.0,
        choose=lambda _budget, _but: None,
        plan=None if plan is None else Plan.from_dict(plan.to_dict()),
        trials=trials,
        clock=clock,
    )


def test_every_budget_has_finals_of_its_own() -> None:
    """The networks of a small budget are also within the larger ones, but do not replace theirs."""
    costs = [size * 10**6 for size in range(1, 10)]
    records = [record(i, cost, 1.0, accuracy=0.5 + i / 100) for i, cost in enumerate(costs)]
    for trial, cost in ((20, 10**6), (21, 4 * 10**6), (22, 9 * 10**6)):
        reference = record(trial, cost, 1.0, accuracy=0.2 + trial / 100)
        records.append(replace(reference, origin="mobilenet_v2"))
    finals = rounds(10.0, (2 * 10**6, 4 * 10**6, 10**7))

    def best(budget: int, begun: Collection[int]) -> TrialRecord | None:
        within = [r for r in records if finals.budgets[budget].excess(r.costs) is None]
        waiting = [r for r in within if r.trial not in begun and not r.is_baseline]
        return max(waiting, key=lambda r: r.accuracy, default=None)

    finals.choose = best
    finals.make_plan(records, 0.4, slots=1)
    chosen: dict[str, list[int]] = {}
    for _ in range(9):
        due = finals.next(records, 1.0)
        assert due is not None
        of, budget = due
        finals.begin(of, budget)
        chosen.setdefault(budget, []).append(of.trial)
    labels = [budget.label for budget in finals.budgets]
    assert chosen == dict(zip(labels, ([20, 1, 0], [21, 3, 2], [22, 8, 7]), strict=True))


def test_the_time_of_a_training_rises_with_its_mult_adds() -> None:
    """Screenings of one cost predict the time of a final on larger images."""
    per_image = 2e-4
    records = [record(i, 10**6, 1000 * per_image) for i in range(3)]
    time = TrainingTime.fit(records, 5000)
    assert time is not None
    assert time.seconds(1000, 1e6) == pytest.approx(1000 * per_image)
    assert time.seconds(1000, 16e6) == pytest.approx(1000 * per_image * 16.9 / 1.9)
    assert TrainingTime.fit([], 5000) is None


@pytest.mark.parametrize(
    ("minutes", "epochs", "budgets"), [(60.0, 40, (0, 1)), (2.0, 20, (0, 1)), (0.05, 12, ())]
)
def test_a_plan_fits_its_time(minutes: float, epochs: int, budgets: tuple[int, ...]) -> None:
    """Less time makes trainings shorter, and at last leaves budgets out."""
    records = [record(0, 10**7, 1.0), record(1, 10**6, 0.5)]
    plan = rounds(minutes, (10**6, 10**7)).make_plan(records, 0.4, slots=2)
    assert plan.budgets == budgets
    assert plan.epochs <= epochs
    assert plan.seconds == 120 * minutes
    assert Plan.from_dict(plan.to_dict()) == plan


def test_each_budget_has_time_for_as_many_finals() -> None:
    """A large budget's trainings take longer than an equal part of the time."""
    records = [record(0, 10**8, 40.0), record(1, 10**6, 1.0)]
    alone = rounds(300.0, (10**8,)).make_plan(records, 0.4, slots=1)
    both = rounds(300.0, (10**6, 10**8)).make_plan(records, 0.4, slots=1)
    assert both == replace(alone, budgets=(0, 1), asked=both.asked)


def test_without_a_bound_finals_take_as_long_as_the_search() -> None:
    plan = rounds(None, (10**7,)).make_plan([record(0, 10**7, 40.0)], 0.4, slots=2)
    assert plan.seconds == pytest.approx(40.0 / 0.4)
    long = rounds(None, (10**7,)).make_plan([record(0, 10**7, 4e4)], 0.4, slots=2)
    assert long.seconds == 15 * 60 * 2


def test_other_budgets_have_a_plan_of_their_own_and_trainings_of_the_same_length() -> None:
    done = record(0, 10**6, 40.0)
    first = rounds(1.0, (10**7,))
    plan = first.make_plan([done], 0.4, slots=2)
    assert not first.needs_plan
    later = rounds(1.0, (10**6,))
    later.plan = Plan.from_dict(plan.to_dict())
    assert done.evaluation is not None
    later.begin(done, None)
    later.add(done, done.evaluation)
    assert later.needs_plan
    again = later.make_plan([done], 1.0, slots=2)
    assert not later.needs_plan
    assert (again.epochs, again.seconds) == (plan.epochs, 40.0 + 120.0)
    fewer = rounds(1.0, (10**6,))
    fewer.plan = rounds(1.0, (10**7, 10**6)).make_plan([done], 0.4, slots=2)
    assert not fewer.needs_plan, "its finals include those of this budget"
    old = plan.to_dict()
    del old["asked"]
    later.plan = Plan.from_dict(old)
    assert not later.needs_plan, "a plan of an older version is followed"


def test_a_further_plan_includes_the_earlier_one() -> None:
    """A command that was completed trains nothing after one with fewer trials or less time."""
    done = [record(0, 10**7, 0.5)]

    def planned(
        minutes: float | None, budgets: tuple[int, ...], before: Plan | None, trials: int
    ) -> Plan | None:
        finals = rounds(minutes, budgets, before, trials)
        return finals.make_plan(done, 1.0, slots=1) if finals.needs_plan else None

    first = planned(5.0, (10**7,), None, 50)
    assert first is not None
    second = planned(1.0, (2 * 10**7,), first, 20)
    assert second is not None, "another budget"
    for minutes, budget, trials in ((5.0, 10**7, 50), (1.0, 2 * 10**7, 20), (5.0, 2 * 10**7, 50)):
        assert planned(minutes, (budget,), second, trials) is None
    again = rounds(5.0, (10**7,), second, 50)
    assert again.in_every_budget, "those of the first plan"
    assert planned(5.0, (10**7,), second, 60) is not None
    assert planned(6.0, (10**7,), second, 50) is not None


def test_time_that_is_longer_than_that_of_the_plan_brings_further_finals() -> None:
    """Finals without a given time took two minutes, less than their default at most."""
    done = [record(0, 10**7, 120.0)]
    plan = rounds(None, (10**7,), trials=50).make_plan(done, 1.0, slots=1)
    assert plan.seconds == 120
    assert rounds(3.0, (10**7,), plan, trials=50).needs_plan
    assert not rounds(1.0, (10**7,), plan, trials=50).needs_plan
    assert not rounds(None, (10**7,), plan, trials=50).needs_plan


def test_a_further_plan_states_the_time_that_it_adds() -> None:
    done = record(0, 10**7, 0.5)
    budgets = [Budget(mult_adds=10**7)]
    first = rounds(10.0, (10**7,), trials=50).make_plan([done], 0.4, slots=1)
    assert first.sentence(budgets).startswith("finals: about")
    later = rounds(10.0, (10**7,), first, trials=60)
    later.begin(done, None)
    assert done.evaluation is not None
    later.add(done, replace(done.evaluation, seconds=500.0))
    text = later.make_plan([done], 1.0, slots=1).sentence(budgets)
    assert text.startswith("further finals: about")
    assert text.endswith(", 10.0 min of worker time")


def test_the_time_left_of_finals_falls_while_they_run() -> None:
    """One final begins; its predicted time passes, and then it takes longer than predicted."""
    now = 0.0
    records = [record(0, 10**7, 0.5), record(1, 10**7, 0.5)]
    finals = rounds(5.0, (10**7,), clock=lambda: now)
    plan = finals.make_plan(records, 1.0, slots=1)
    begun = finals.seconds_left(records, 0.0, slots=1)
    assert begun == plan.seconds
    finals.begin(records[0], None)
    assert finals.seconds_left(records, 0.0, slots=1) == pytest.approx(begun)
    assert finals.taken() == 0.0
    predicted = finals.spent(records)
    now = predicted / 4
    assert finals.seconds_left(records, 0.0, slots=1) == pytest.approx(begun - now)
    assert finals.taken() == now
    now = 2 * predicted
    assert finals.seconds_left(records, 0.0, slots=1) == pytest.approx(begun - predicted)
    assert records[0].evaluation is not None
    finals.add(records[0], replace(records[0].evaluation, seconds=now))
    assert finals.seconds_left(records, 0.0, slots=1) == pytest.approx(begun - now)


def test_of_the_references_the_donor_has_the_first_final() -> None:
    families = ("mobilenet_v1", "mobilenet_v2", "efficientnet_lite0", "mobilenet_v2")
    accuracies = (0.3, 0.7, 0.5, 0.8)
    found = []
    for trial, (family, accuracy) in enumerate(zip(families, accuracies, strict=True)):
        one = record(trial, 10**6, 1.0)
        assert one.evaluation is not None
        evaluation = replace(one.evaluation, accuracy=accuracy)
        found.append(replace(one, origin=family, evaluation=evaluation))
    assert [each.trial for each in strongest(found)] == [2, 3, 0]


def curve(*accuracies: float) -> tuple[Epoch, ...]:
    return tuple(Epoch(1.0, 1.0, accuracy, 1.0) for accuracy in accuracies)


def test_a_final_is_pruned_if_it_is_far_behind_a_network_of_no_larger_cost() -> None:
    finals = rounds(1.0, (10**7,))
    finals.plan = Plan(60.0, 4, 3, (0,))
    done = record(0, 10**6, 1.0)
    assert done.evaluation is not None
    finals.begin(done, None)
    finals.add(done, replace(done.evaluation, curve=curve(0.3, 0.6, 0.7, 0.75)))
    dear, cheap = record(1, 10**7, 1.0), record(2, 10**5, 1.0)
    assert finals.prune_reason(dear, curve(0.1), images=400) is None, "too early to tell"
    assert finals.prune_reason(dear, curve(0.3, 0.58), images=400) is None, "within the noise"
    assert finals.prune_reason(dear, curve(0.3, 0.5), images=400) == (
        "pruned after epoch 2 of 4: accuracy 0.500, needs 0.551"
    )
    assert finals.prune_reason(cheap, curve(0.3, 0.5), images=400) is None, "nothing is as cheap"
    assert finals.forecast(dear, curve(0.3, 0.5)) == pytest.approx(0.65)


def test_the_strongest_references_are_the_best_of_each_family() -> None:
    records = [
        replace(record(i, 10**6, 1.0, accuracy), origin=origin)
        for i, (origin, accuracy) in enumerate(
            [("mobilenet_v1", 0.5), ("mobilenet_v2", 0.6), ("mobilenet_v2", 0.7), ("search", 0.9)]
        )
    ]
    assert [r.trial for r in strongest(records)] == [2, 0]


def test_a_screening_of_few_images_has_more_epochs() -> None:
    proxy = Proxy()
    assert first_length(proxy, 10_000) == 4
    assert first_length(proxy, 600) == 20
    assert not well_above_chance(0.3, 0.1)
    assert well_above_chance(0.5, 0.1)


def test_a_pilot_lengthens_the_screening_until_a_reference_is_above_chance() -> None:
    """The fake's accuracy halves what is left at each epoch."""
    network = small().decode(small().complete({}))
    with LocalProcesses(FakeEvaluator(epochs=1, slow=True), 1) as executor:
        pilot = run_pilot(executor, network, Proxy(), images=6000, chance=0.1, seed=0)
    lengths = [training.epochs for training in pilot.trainings]
    assert lengths[0] == 4
    assert all(b == 2 * a for a, b in pairwise(lengths))
    assert len(lengths) > 1
    assert well_above_chance(pilot.trainings[-1].accuracy, 0.1)
    assert not well_above_chance(pilot.trainings[-2].accuracy, 0.1)
    assert f"after {pilot.epochs} epochs" in pilot.sentence()


def test_a_pilot_does_not_lengthen_a_search_beyond_20_minutes() -> None:
    network = small().decode(small().complete({}))
    with LocalProcesses(FakeEvaluator(epochs=1, slow=True, seconds=0.01), 1) as executor:
        lengths = {
            screenings: run_pilot(executor, network, Proxy(), 6000, 0.1, 0, screenings)
            for screenings in (0.0, 1e9)
        }
    assert lengths[0.0].too_long is None
    short = lengths[1e9]
    assert [training.epochs for training in short.trainings] == [4]
    assert short.too_long is not None
    assert short.too_long > 20
    assert "; 8 epochs would take about " in short.sentence()
    assert Pilot.from_dict(short.to_dict()) == short


def test_predictions_survive_storage(tmp_path: Path) -> None:
    search(tmp_path, small())
    kept = [e for each in read_study(tmp_path).finals().values() for e in each]
    assert kept
    for evaluation in kept:
        assert evaluation.predictions is not None
        back = Evaluation.from_dict(evaluation.to_dict())
        assert back.predictions is not None
        np.testing.assert_array_equal(back.predictions.predicted, evaluation.predictions.predicted)
