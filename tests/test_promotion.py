from __future__ import annotations

import math
import random
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import optuna
import pytest
from fake_evaluator import FakeEvaluator
from former_spaces import FORMER_V2

from mbsearch.analysis.answer_selection import answer
from mbsearch.analysis.calibration import Calibration, denoised
from mbsearch.analysis.findings import Findings, budget_of, natural_budgets
from mbsearch.analysis.front import front_of
from mbsearch.analysis.reference_families import best_by_screening
from mbsearch.analysis.tables import to_frame
from mbsearch.cli import main
from mbsearch.cli.status import print_status
from mbsearch.config.budgets import Budget
from mbsearch.config.promotion_settings import Promotion
from mbsearch.config.proxy_settings import Proxy
from mbsearch.config.racing_settings import Racing
from mbsearch.config.specification import SearchSpecification, load_specification
from mbsearch.dashboard.pages.network import chosen, training
from mbsearch.dashboard.parts import accuracy
from mbsearch.dashboard.studies import Library, ResultsFolder
from mbsearch.evaluation import Scoring
from mbsearch.execution.local import LocalProcesses
from mbsearch.figures.comparison import comparison
from mbsearch.figures.front import front_figure
from mbsearch.figures.network import curve_figure
from mbsearch.progress import Progress
from mbsearch.search.driver import Driver
from mbsearch.search.factory import make_sampler
from mbsearch.search.pending import find_promotions
from mbsearch.search.promotion import LEAST_GAIN, MOST_LEFT_OUT, Promotions
from mbsearch.search.sampler.cost_aware import CostAwareSampler
from mbsearch.search.sampler.observations import PROMOTED
from mbsearch.study.artifacts import Artifacts
from mbsearch.study.journal import open_journal
from mbsearch.study.log_odds import logit
from mbsearch.study.opening import JOURNAL, read_study
from mbsearch.study.records import (
    Fidelity,
    State,
    TrialRecord,
    complete,
    find_trial,
    of_highest_fidelity,
)
from mbsearch.study.store import StudyStore, accuracy_noise, create_study
from mbsearch.study.trial_spec import TrialKind, TrialSpec
from mbsearch.study_run import RunResult, run

V2 = load_specification(FORMER_V2)
EPOCHS, LONGER = V2.settings.proxy.epochs, V2.settings.promotion.longer


def without_racing(share: float) -> SearchSpecification:
    changes = {"promotion": Promotion(share=share), "racing": Racing(rungs=())}
    return V2.with_settings(changes)


def search(
    folder: Path,
    *,
    trials: int = 40,
    share: float = 0.6,
    deadline: float = math.inf,
    seconds: float = 0.0,
    evaluator: FakeEvaluator | None = None,
    seen: list[Progress] | None = None,
) -> StudyStore:
    space = without_racing(share)
    store = create_study(open_journal(folder / JOURNAL, create=True), space.name)
    store.search.sampler = make_sampler("random", space, seed=0)
    evaluator = evaluator or FakeEvaluator(seconds=seconds, epochs=EPOCHS)
    progress = [] if seen is None else seen
    with LocalProcesses(evaluator, 2) as executor:
        Driver(store, space, executor, trials, 0, progress.append, deadline).run()
    return store


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("refined") / "v2"


@pytest.fixture(scope="module")
def refined(folder: Path) -> StudyStore:
    folder.mkdir()
    return search(folder)


def work(records: Sequence[TrialRecord]) -> tuple[int, int]:
    """Mult-Adds times epochs of the search, and of the longer trainings without repeats."""
    short = sum(
        r.mult_adds * len(r.evaluation.curve)
        for r in records
        if r.evaluation is not None and not r.is_baseline
    )
    return short, sum(r.mult_adds * EPOCHS * LONGER for r in records if r.promotion is not None)


def line(accuracy: float, slope: float) -> float:
    """An accuracy on a line of that slope between logits."""
    return 1 / (1 + math.exp(-0.7 - slope * logit(accuracy)))


@pytest.mark.parametrize("slope", [1.0, 0.6])
def test_calibration_finds_the_line_between_the_logits(slope: float) -> None:
    short = [0.3 + i / 100 for i in range(60)]
    calibration = Calibration.between(short, [line(a, slope) for a in short])
    assert calibration is not None
    assert calibration.of(0.55) == pytest.approx(line(0.55, slope), abs=0.003)
    assert calibration.slope == pytest.approx(slope, abs=0.01)


def test_calibration_of_few_or_equal_networks_keeps_the_slope_of_one() -> None:
    assert Calibration.between([0.5, 0.6], [0.6, 0.7]) is None
    equal = Calibration.between([0.5] * 4, [0.6, 0.62, 0.58, 0.6])
    assert equal is not None
    assert equal.slope == 1
    falling = Calibration.between([0.3, 0.5, 0.7], [0.9, 0.5, 0.2])
    assert falling is not None
    assert falling.slope > 0


def test_losses_steady_accuracies_and_few_of_them_do_not() -> None:
    rng = random.Random(0)
    true = [0.4 + i / 100 for i in range(30)]
    noisy = [a + rng.gauss(0, 0.03) for a in true]
    losses = [0.2 - 0.8 * math.log(a) for a in true]

    def error(values: Sequence[float]) -> float:
        return math.sqrt(sum((v - a) ** 2 for v, a in zip(values, true, strict=True)))

    assert error(denoised(noisy, losses)) < 0.6 * error(noisy)
    assert denoised(noisy[:2], losses[:2]) == noisy[:2]


def test_the_sampler_hears_of_losses_where_they_are_numbers() -> None:
    def believed(attributes: Sequence[object]) -> float:
        study = optuna.create_study(directions=["maximize", "minimize"])
        for i, evaluation in enumerate(attributes):
            trial = optuna.trial.create_trial(
                params={"x": i},
                distributions={"x": optuna.distributions.IntDistribution(0, 20)},
                values=[0.5 + 0.01 * (i % 2), float(i)],
                user_attrs={} if evaluation is None else {"evaluation": evaluation},
            )
            study.add_trial(trial)
        sampler = CostAwareSampler(
            {"x": optuna.distributions.IntDistribution(0, 20)}, lambda p: 1 + p["x"], seed=0
        )
        return float(sampler.predict(study, [{"x": 10}])[0][0])

    plain = believed([None] * 20)
    strange = [{}, "text", {"validation_loss": "low"}, {"validation_loss": math.nan}] * 5
    assert believed(strange) == plain
    falling = [{"validation_loss": 1.5 - 0.05 * i} for i in range(20)]
    assert believed(falling) != plain


def test_a_longer_recipe_takes_new_images_first_and_then_more_epochs() -> None:
    proxy = Proxy(epochs=4, train_images=3000)
    assert (proxy.longer(2, 8000).train_images, proxy.longer(2, 8000).epochs) == (6000, 4)
    assert (proxy.longer(4, 8000).train_images, proxy.longer(4, 8000).epochs) == (8000, 6)
    assert (proxy.longer(4, 1000).train_images, proxy.longer(4, 1000).epochs) == (1000, 16)
    assert proxy.longer(4, 8000).validation_images is None


def volume(records: Sequence[TrialRecord], worst: float) -> float:
    """Area under accuracies over log10 of the cost, strip by strip."""
    area, best, left = 0.0, 0.0, -math.inf
    for record in sorted(records, key=lambda r: (r.cost, -r.accuracy)):
        area += best * (math.log10(record.cost) - left) if best else 0.0
        best, left = max(best, record.accuracy), math.log10(record.cost)
    return area + best * (worst - left)


def test_the_front_that_counts_and_its_mobilenets_are_promoted(refined: StudyStore) -> None:
    records = refined.records()
    short = [replace(r, promotion=None) for r in records]
    promoted = {r.trial for r in records if r.promotion is not None}
    front, needed = front_of(short), Promotions(Promotion(share=0.9), short).required()
    worst = math.log10(2 * front[-1].cost)
    kept = [r for r in front if r in needed]
    assert {r.trial for r in kept} <= promoted
    for record in front:
        gain = volume([*kept, record], worst) - volume(kept, worst)
        assert gain <= LEAST_GAIN * volume(kept, worst)
    for record in (r for r in kept if not r.is_baseline):
        for margin in answer(Findings(short), budget_of(record)).margins:
            assert margin.published or margin.other.record.trial in promoted
    assert promoted < {r.trial for r in records}


def test_mobilenets_that_answers_are_compared_with_are_promoted(refined: StudyStore) -> None:
    records = refined.records()
    budgets = natural_budgets(records)
    assert len(budgets) > 1
    for budget in budgets:
        answered = answer(Findings(records), Budget(mult_adds=budget))
        assert answered.unpromoted == ()
        within = [r for r in records if r.cost <= budget and r.trial != answered.record.trial]
        for margin in answered.margins:
            of_family = [r for r in within if r.origin == margin.other.record.origin]
            assert max(of_family, key=lambda r: r.accuracy).promotion is not None
            assert margin.other.accuracy.mean == max(
                r.promotion.accuracy for r in of_family if r.promotion is not None
            )


def test_a_mobilenet_without_the_longer_training_is_not_said_to_be_beaten(
    refined: StudyStore,
) -> None:
    records = refined.records()
    budget = natural_budgets(records)[-1]
    whole = answer(Findings(records), Budget(mult_adds=budget))
    (best,) = (
        r
        for r in best_by_screening([r for r in records if r.cost <= budget])
        if r.origin == "mobilenet_v2"
    )

    def sentence(waiting: Callable[[TrialRecord], bool]) -> str:
        # What was found is far ahead of what is left of the family.
        told = [
            replace(r, promotion=None)
            if waiting(r)
            else replace(r, promotion=replace(r.promotion, accuracy=0.999))
            if r.promotion and r.trial == whole.record.trial
            else r
            for r in records
        ]
        return answer(Findings(told), Budget(mult_adds=budget)).sentence()

    caution = f"{best.label} may be better, but was not promoted"
    assert caution in sentence(lambda r: r.trial == best.trial)
    alone = sentence(lambda r: r.origin == "mobilenet_v2")
    assert caution in alone
    assert "over MobileNetV2" not in alone
    assert caution not in whole.sentence()


def test_a_large_mobilenet_is_not_promoted_for_a_comparison(refined: StudyStore) -> None:
    """None takes more than half of what is left."""
    records = [replace(r, promotion=None) for r in refined.records()]
    whole = Promotions(Promotion(share=0.9), records)
    for record in whole.required():
        whole.begin(record, repeat=False)
    due = whole.next()
    assert due is not None
    rival, repeat = due
    assert rival.is_baseline
    assert not repeat
    short = sum(r.mult_adds for r in records if not r.is_baseline and r.evaluation is not None)
    begun = sum(r.mult_adds for r in records if r.trial in whole.begun)
    for left in (2 * rival.mult_adds - 1, 2 * rival.mult_adds + 1):
        work = LONGER * (begun + left)
        settings = Promotion(share=work / (work + short), longer=LONGER)
        tight = Promotions(settings, records, set(whole.begun))
        assert (tight.next() == due) == (left > 2 * rival.mult_adds)


def test_what_adds_little_to_the_front_is_no_must(refined: StudyStore) -> None:
    """Of three networks side by side, one that is a hair better than its neighbour can wait."""
    base = refined.records()[0]
    assert base.evaluation is not None
    front = [
        replace(
            base,
            trial=trial,
            origin="search",
            costs={**base.costs, "mult_adds": cost},
            evaluation=replace(base.evaluation, accuracy=accuracy),
            promotion=None,
        )
        for trial, (cost, accuracy) in enumerate(((100, 0.5), (1000, 0.8), (1010, 0.8001)))
    ]
    assert front_of(front) == front
    assert {r.trial for r in Promotions(Promotion(share=0.9), front).required()} == {0, 1}


def test_a_share_too_small_for_the_front_promotes_most_of_it(refined: StudyStore) -> None:
    """With less to spend, fewer are promoted, until too little of the front would be left."""
    records = [replace(r, promotion=None) for r in refined.records()]
    front = front_of(records)
    worst = math.log10(2 * front[-1].cost)
    sizes = set()
    for share in (i / 100 for i in range(99, 0, -1)):
        promotions = Promotions(Promotion(share=share), records)
        kept = [r for r in front if r in promotions.required()]
        assert volume(kept, worst) >= (1 - MOST_LEFT_OUT) * volume(front, worst)
        if not promotions.affordable:
            break
        sizes.add(len(kept))
    assert len(sizes) > 1
    assert share > 0.01
    assert len(kept) == min(sizes), "what cannot be paid for is the least that would do"
    assert promotions.needed > share


def test_promotion_keeps_to_its_share_of_the_work(refined: StudyStore) -> None:
    short, long = work(refined.records())
    repeats = [
        spec.costs["mult_adds"] * EPOCHS * LONGER
        for _, spec in refined.trials(refined.baselines)
        if spec.kind is TrialKind.PROMOTION_REPEAT
    ]
    assert len(repeats) == V2.settings.proxy.noise_seeds - 1
    assert (long + sum(repeats)) / (short + long + sum(repeats)) <= 0.6


def test_the_front_is_that_of_the_longer_training_with_its_own_noise(refined: StudyStore) -> None:
    records = refined.records()
    front = front_of(records)
    assert all(r.promotion is not None and r.accuracy == r.promotion.accuracy for r in front)
    short, noise = (
        accuracy_noise([[c[-1].validation_accuracy for c in curves] for curves in found.values()])
        for found in (refined.repeats(), refined.repeats(promoted=True))
    )
    assert short is not None
    assert front[0].accuracy_noise == noise
    assert noise is not None
    assert noise < short
    assert {r.trial for r in complete(records)} > {r.trial for r in of_highest_fidelity(records)}
    assert find_trial(records, front[0].trial).accuracy == front[0].accuracy
    row = to_frame(records).set_index("trial").loc[front[-1].trial]
    assert row["promoted_accuracy"] == front[-1].accuracy > row["accuracy"]


def test_the_figure_draws_the_others_faintly(refined: StudyStore) -> None:
    records = refined.records()
    traces = {trace.name: trace for trace in front_figure(records).data}
    faint = traces["Short training only"]
    assert len(faint.x) == len(complete(records)) - len(of_highest_fidelity(records))
    assert len(traces["Pareto front"].x) == len(front_of(records))


def test_the_sampler_learns_on_the_scale_of_the_longer_training(refined: StudyStore) -> None:
    """Promoted networks count with that accuracy, the others with a predicted one."""
    told = refined.search.user_attrs[PROMOTED]
    promoted = {r.trial: r for r in refined.records() if r.promotion and not r.is_baseline}
    # The fake loss is that of the accuracy, so that denoising changes nothing.
    accuracies = sorted(r.at_highest_fidelity.accuracy for r in promoted.values())
    assert sorted(told.values()) == pytest.approx(accuracies)
    sampler = make_sampler("cost-aware", V2, seed=0)
    assert isinstance(sampler, CostAwareSampler)
    params = [t.params for t in refined.search.get_trials() if t.values]
    bare = optuna.create_study(directions=["maximize", "minimize"])
    bare.add_trials([t for t in refined.search.get_trials() if t.values])
    high, _ = sampler.predict(refined.search, params)
    low, _ = make_sampler("cost-aware", V2, seed=0).predict(bare, params)  # type: ignore[attr-defined]
    # The longer fake training halves what is left, and both end their curves at 15/16.
    assert high.mean() == pytest.approx(15 / 32 + low.mean() / 2, rel=0.02)
    assert high.mean() > 1.1 * low.mean()


def test_a_search_too_small_for_its_front_promotes_nothing(tmp_path: Path) -> None:
    store = search(tmp_path, trials=4, share=0.1)
    assert not store.promotions()
    assert of_highest_fidelity(store.records()) == complete(store.records())
    assert find_promotions(store, V2).needed > 0.1


@pytest.mark.parametrize(("needed", "advice"), [(0.614, " (--refine 0.62 allows it)"), (0.95, "")])
def test_a_run_without_promotion_names_the_share_that_it_needs(
    refined: StudyStore,
    folder: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    needed: float,
    advice: str,
) -> None:
    result = RunResult(folder, refined.records(), exhausted=False, identity={}, unpromoted=needed)
    monkeypatch.setattr("mbsearch.study_run.run", lambda *_, **__: result)
    with pytest.raises(SystemExit) as end:
        main(["run", "--space", "v2", "--trials", "9"])
    assert end.value.code == 0
    share = math.ceil(100 * needed)
    needs = f"would take {share}% of the study's training, and 25% is allowed{advice}\n"
    assert needs in capsys.readouterr().err


def test_what_racing_saves_may_go_into_promotion(refined: StudyStore) -> None:
    """Pruned trials count as complete."""
    whole = [replace(r, promotion=None) for r in refined.records()]
    stopped = [
        r
        if r.evaluation is None
        else replace(r, evaluation=replace(r.evaluation, curve=r.evaluation.curve[:1]))
        for r in whole
    ]
    assert Promotions(Promotion(), stopped).needed == Promotions(Promotion(), whole).needed > 0


def test_no_share_means_no_promotion(tmp_path: Path) -> None:
    assert not search(tmp_path, share=0.0).promotions()


def test_a_search_by_time_keeps_the_last_share_for_promotion(tmp_path: Path) -> None:
    started = time.monotonic()
    seen: list[Progress] = []
    store = search(tmp_path, trials=10**6, deadline=started + 12, seconds=0.01, seen=seen)
    assert not find_promotions(store, V2).required()
    assert store.promotions()
    phases = [p.phase for p in seen]
    assert phases.index("longer training") > phases.index("search")


def test_what_was_cut_off_is_promoted_by_the_next_run(tmp_path: Path, refined: StudyStore) -> None:
    class CutError(Exception):
        pass

    class Progresses(list[Progress]):
        def append(self, progress: Progress) -> None:
            super().append(progress)
            if sum(", promotion)" in (p.message or "") for p in self) == 3:
                raise CutError

    with pytest.raises(CutError):
        search(tmp_path, seen=Progresses())
    cut = read_study(tmp_path)
    assert 0 < len(cut.promotions()) < len(refined.promotions())
    again = search(tmp_path)
    assert sorted(again.promotions()) == sorted(refined.promotions())
    trials = [
        spec.trial for _, spec in again.trials(again.baselines) if spec.kind is TrialKind.PROMOTION
    ]
    assert len(trials) == len(set(trials)), "nothing is promoted twice"


def test_a_resumed_run_takes_no_seed_again(tmp_path: Path) -> None:
    """Repeats of a promotion have the trial of their network, and a seed of their own."""

    def specs(store: StudyStore) -> list[TrialSpec]:
        return [s for study in (store.baselines, store.search) for _, s in store.trials(study)]

    before = specs(search(tmp_path))
    assert max(spec.seed for spec in before) > max(spec.trial for spec in before)
    after = specs(search(tmp_path, trials=41, share=0.0))
    (added,) = [spec for spec in after if spec not in before]
    assert added.kind is TrialKind.SEARCH
    assert added.seed == max(spec.seed for spec in before) + 1


def test_where_the_baseline_failed_that_shows_the_noise_others_are_promoted(
    tmp_path: Path, refined: StudyStore
) -> None:
    several = refined.repeats()
    seed = next(r.trial for r in refined.records() if r.fingerprint in several)
    store = search(tmp_path, evaluator=FakeEvaluator(epochs=EPOCHS, fails_with=seed))
    assert [r.trial for r in store.records() if r.state is State.FAILED] == [seed]
    assert store.promotions()
    assert seed not in store.promotions()


def test_a_failed_longer_training_is_not_tried_for_ever(tmp_path: Path) -> None:
    search(tmp_path, share=0.0)
    store = search(tmp_path, evaluator=FakeEvaluator(fails=True, epochs=EPOCHS))
    assert not store.promotions()
    failed = [
        trial
        for trial, spec in store.trials(store.baselines)
        if spec.fidelity is Fidelity.PROMOTION
    ]
    assert failed
    assert all("diverged" in t.user_attrs["error"] for t in failed)


def test_contenders_are_those_with_a_chance(refined: StudyStore) -> None:
    """Once the front is promoted, a network far below it never is, and a near one first."""

    def record(trial: int, accuracy: float, cost: int, after: float | None = None) -> TrialRecord:
        base = refined.records()[0]
        assert base.evaluation is not None
        short = replace(base.evaluation, accuracy=accuracy)
        long = None if after is None else replace(base.evaluation, accuracy=after)
        costs = {**base.costs, "mult_adds": cost}
        return replace(
            base, trial=trial, origin="search", costs=costs, evaluation=short, promotion=long
        )

    front = [record(i, 0.7 + i / 20, 10 + i, 0.8 + i / 30 + 0.02 * (i % 2)) for i in range(4)]
    bad = record(9, 0.4, 12)
    near = record(8, front[3].accuracy - 0.001, 40)
    done = {r.trial for r in front}
    promotions = Promotions(Promotion(share=0.9), [*front, bad, near], done)
    assert promotions.required() == []
    assert promotions.next() == (near, False)
    assert Promotions(Promotion(share=0.9), [*front, bad], done).next() is None

    # None takes more than half of what is left.
    short = sum(r.mult_adds for r in (*front, bad, near))
    for left, due in (2 * near.mult_adds - 1, None), (2 * near.mult_adds + 1, (near, False)):
        longer = LONGER * (sum(r.mult_adds for r in front) + left)
        settings = Promotion(share=longer / (longer + short), longer=LONGER)
        assert Promotions(settings, [*front, bad, near], done).next() == due


def test_status_names_the_fidelity_of_its_accuracies(
    refined: StudyStore, capsys: pytest.CaptureFixture[str]
) -> None:
    records = refined.records()
    print_status("v2", Findings(records), (), Artifacts())
    said = capsys.readouterr().out
    assert "accuracy of a longer training" in said
    assert f"{len(of_highest_fidelity(records))} networks were promoted" in said


def test_a_run_interrupted_in_promotion_resumes_promotion(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class CutError(Exception):
        pass

    def fake(space: SearchSpecification, *_: object, **__: object) -> Scoring:
        return Scoring(FakeEvaluator(epochs=EPOCHS), space, "fake", "0")

    def cut(progress: Progress) -> None:
        if ", promotion)" in (progress.message or ""):
            raise CutError

    monkeypatch.setattr("mbsearch.study_run.by_training", fake)
    space = without_racing(0.6)

    def again(
        on_progress: Callable[[Progress], None] = lambda _: None, trials: int = 40
    ) -> list[TrialRecord]:
        return run(
            space, trials=trials, folder=tmp_path, sampler="random", jobs=2, on_progress=on_progress
        ).records

    with pytest.raises(CutError):
        again(cut)
    cut_off = read_study(tmp_path).promotions()
    finished = again()
    assert sum(not r.is_baseline for r in finished) == 40
    assert sum(r.promotion is not None for r in finished) > len(cut_off)
    assert sum(not r.is_baseline for r in again()) == 40
    assert sum(not r.is_baseline for r in again(trials=60)) == 60


def test_the_dashboard_and_the_card_go_by_the_longer_training(
    refined: StudyStore, folder: Path
) -> None:
    library = Library(ResultsFolder(folder.parent))
    snapshot = library.snapshot("v2")
    while snapshot.loading:
        time.sleep(0.05)
        snapshot = library.snapshot("v2")
    assert snapshot.records == tuple(refined.records())
    best, second = sorted(front_of(snapshot.records), key=lambda r: -r.accuracy)[:2]
    raw = {r.trial: r for r in snapshot.records}
    assert accuracy(raw[best.trial]) == f"{best.accuracy:.3f} ± {best.accuracy_noise:.3f}"
    lead = best.accuracy - second.accuracy
    assert f"{lead:.3f} higher" in comparison(raw[best.trial], raw[second.trial])
    assert training(raw[best.trial])["accuracy, longer training"] == f"{best.accuracy:.4f}"
    findings = snapshot.findings
    assert findings.main_budget is not None
    assert chosen(snapshot, {}) is raw[answer(findings, findings.main_budget).record.trial]
    short = next(r for r in snapshot.records if r.promotion is None and not r.is_baseline)
    lead = abs(raw[best.trial].accuracy - short.accuracy)
    assert f"its screening accuracy is {lead:.3f} higher" in comparison(raw[best.trial], short)


@pytest.mark.parametrize("promoted", [True, False])
def test_learning_curves_are_of_one_fidelity(refined: StudyStore, promoted: bool) -> None:
    """A longer training sees more images an epoch: beside a short one it would flatter."""
    records = refined.records()
    best = front_of(records)[-1]
    if not promoted:  # the MobileNets of its cost had the short one only
        records = [replace(r, promotion=None) if r.is_baseline else r for r in records]
    else:
        records = [r for r in records if not r.is_baseline or r.promotion is not None]
    figure = curve_figure([best], records)
    raw = next(r for r in records if r.trial == best.trial)
    expected = raw.at_highest_fidelity if promoted else raw
    assert figure.data[-1].y[-1] == expected.accuracy
    assert ("longer" in figure.layout.yaxis.title.text) is promoted
    assert len(figure.data) > 1
