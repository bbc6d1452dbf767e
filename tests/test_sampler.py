from __future__ import annotations

import doctest
import math
import pickle
from collections.abc import Callable, Mapping
from contextlib import suppress
from itertools import product
from pathlib import Path
from typing import Any, Literal

import numpy as np
import optuna
import pytest
import yaml
from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
)
from optuna.trial import TrialState

from mbsearch.analysis.calibration import add_gain
from mbsearch.analysis.pareto import hypervolume
from mbsearch.config.budgets import Limits
from mbsearch.config.specification import load_specification, read_specification
from mbsearch.cost import measure
from mbsearch.errors import SpecError
from mbsearch.search.factory import distributions, make_sampler
from mbsearch.search.sampler import candidates, proposals
from mbsearch.search.sampler.candidates import KnownNetworks
from mbsearch.search.sampler.cost_aware import CostAwareSampler
from mbsearch.search.sampler.facts import Facts
from mbsearch.search.sampler.observations import ANCHORS, FINALS, PARTIAL_ACCURACY
from mbsearch.search.sampler.parameters import ChoiceSpace
from mbsearch.space.yaml_source import parse_document

DOCS = Path(__file__).parent.parent / "docs"

LAYERS: dict[str, BaseDistribution] = {
    f"layer{number}": CategoricalDistribution(("skip", "small", "large")) for number in range(8)
}
THREE = {name: LAYERS[name] for name in ("layer0", "layer1", "layer2")}
SIZE = {"skip": 0, "small": 1, "large": 3}

MIXED: dict[str, BaseDistribution] = {
    "width": FloatDistribution(0.1, 10.0, log=True),
    "share": FloatDistribution(-1.0, 1.0),
    "ratio": FloatDistribution(0.0, 1.0, step=0.25),
    "depth": IntDistribution(1, 9, step=2),
    "units": IntDistribution(1, 100_000, log=True),
    "offset": IntDistribution(-5_000, 4_996, step=7),
    "kind": CategoricalDistribution(("a", None, True, 2)),
    "kernel": CategoricalDistribution((7, 3, 5)),
    "fixed": FloatDistribution(2.0, 2.0),
}


class Odd(BaseDistribution):
    def to_internal_repr(self, param_value_in_external_repr: Any) -> float:
        raise NotImplementedError

    def single(self) -> bool:
        raise NotImplementedError

    def _contains(self, param_value_in_internal_repr: float) -> bool:
        raise NotImplementedError


Function = Callable[[Mapping[str, Any]], float]


def layer_cost(params: Mapping[str, Any]) -> float:
    return 1.0 + sum((1 + i % 3) * SIZE[value] for i, value in enumerate(params.values()))


def layer_accuracy(params: Mapping[str, Any]) -> float:
    """Layers differ in what they give, with diminishing returns."""
    gains = [(0.5 + i / 8) * math.sqrt(SIZE[value]) for i, value in enumerate(params.values())]
    return 1.0 - math.exp(-0.25 * sum(gains) - 0.3)


def mixed_cost(params: Mapping[str, Any]) -> float:
    return float(params["width"] * params["depth"] * (1 + params["units"]))


def new_study(sampler: optuna.samplers.BaseSampler) -> optuna.Study:
    return optuna.create_study(directions=["maximize", "minimize"], sampler=sampler)


def run(
    study: optuna.Study,
    space: dict[str, BaseDistribution],
    trials: int,
    accuracy: Function = layer_accuracy,
    cost: Function = layer_cost,
    noise: float = 0.0,
) -> list[dict[str, Any]]:
    asked = []
    for _ in range(trials):
        trial = study.ask(space)
        error = noise * np.random.default_rng(trial.number).normal()
        study.tell(trial, (accuracy(trial.params) + error, cost(trial.params)))
        asked.append(trial.params)
    return asked


def identities(study: optuna.Study) -> list[tuple[Any, ...]]:
    return [tuple(sorted(trial.params.items())) for trial in study.trials]


def test_every_kind_of_distribution_is_respected() -> None:
    study = new_study(CostAwareSampler(MIXED, mixed_cost, seed=1))
    asked = run(study, MIXED, 25, lambda p: math.tanh(p["depth"] * p["ratio"] / 9), mixed_cost)
    for params in asked:
        for name, distribution in MIXED.items():
            assert distribution._contains(distribution.to_internal_repr(params[name]))
    assert len({params["share"] for params in asked}) > 5


def test_rows_and_parameters_are_inverse() -> None:
    space = ChoiceSpace(MIXED)
    for row in space.draw(np.random.default_rng(0), 50):
        back = space.encode(space.decode(row))
        assert back is not None
        assert back == pytest.approx(row, abs=1e-12)
    assert space.encode({"depth": 11}) is None
    assert space.encode({"kind": "b"}) is None
    assert space.encode({"width": "wide"}) is None


@pytest.mark.parametrize(
    "directions", [["minimize", "maximize"], ["maximize"], ["maximize", "minimize", "minimize"]]
)
def test_other_directions_are_refused(
    directions: list[Literal["minimize", "maximize"]],
) -> None:
    sampler = CostAwareSampler(LAYERS, layer_cost, seed=0)
    study = optuna.create_study(directions=directions, sampler=sampler)
    with pytest.raises(SpecError, match=r"directions \['maximize', 'minimize'\].* got \['m"):
        study.ask(LAYERS)


def test_mistakes_in_the_arguments_are_named() -> None:
    with pytest.raises(SpecError, match="at least one parameter, got none"):
        CostAwareSampler({}, layer_cost)
    with pytest.raises(SpecError, match="odd: expected a categorical, int or float"):
        CostAwareSampler({"odd": Odd()}, layer_cost)
    with pytest.raises(SpecError, match=r"cost: expected a number above 0 .*, got 0\.0"):
        new_study(CostAwareSampler(LAYERS, lambda params: 0.0)).ask(LAYERS)
    with pytest.raises(SpecError, match="cost: expected a finite number, got nan"):
        new_study(CostAwareSampler(LAYERS, lambda params: math.nan, log_cost=False)).ask(LAYERS)
    for none in (0.0, math.inf, math.nan):
        with pytest.raises(SpecError, match="work: expected a number above 0, got"):
            new_study(CostAwareSampler(LAYERS, layer_cost, work=lambda _: none)).ask(LAYERS)  # noqa: B023
    with pytest.raises(SpecError, match="growth: expected a finite number, got nan"):
        new_study(CostAwareSampler(LAYERS, layer_cost, growth=lambda _: math.nan)).ask(LAYERS)
    with pytest.raises(SpecError, match="no parameter set of the search space was found feasible"):
        new_study(CostAwareSampler(LAYERS, layer_cost, feasible=lambda params: False)).ask(LAYERS)
    with pytest.raises(SpecError, match="canonical: a value outside the search space"):
        new_study(
            CostAwareSampler(LAYERS, layer_cost, canonical=lambda params: {"layer0": "huge"})
        ).ask(LAYERS)
    sampler = CostAwareSampler(LAYERS, layer_cost, seed=0)
    study = new_study(sampler)
    with pytest.raises(SpecError, match="at least two completed trials"):
        sampler.predict(study, [])
    run(study, LAYERS, 3)
    with pytest.raises(SpecError, match=r"\{'layer0': 'huge'\} is not in the search space"):
        sampler.predict(study, [{"layer0": "huge"}])


def test_a_parameter_outside_the_space_is_drawn_from_its_distribution() -> None:
    def objective(trial: optuna.Trial) -> tuple[float, float]:
        params = {name: trial.suggest_categorical(name, tuple(SIZE)) for name in LAYERS}
        assert 1 <= trial.suggest_int("outside", 1, 4) <= 4
        return layer_accuracy(params), layer_cost(params)

    study = new_study(CostAwareSampler(LAYERS, layer_cost, seed=0))
    study.optimize(objective, n_trials=12)
    assert len({trial.params["outside"] for trial in study.trials}) > 1


def test_a_resumed_study_gets_the_same_suggestions() -> None:
    whole = run(new_study(CostAwareSampler(LAYERS, layer_cost, seed=5)), LAYERS, 60)
    resumed = new_study(CostAwareSampler(LAYERS, layer_cost, seed=5))
    parts = run(resumed, LAYERS, 55)
    resumed.sampler = CostAwareSampler(LAYERS, layer_cost, seed=5)
    assert parts + run(resumed, LAYERS, 5) == whole
    assert run(new_study(CostAwareSampler(LAYERS, layer_cost, seed=6)), LAYERS, 20) != whole[:20]


def test_a_resumed_study_gets_the_same_suggestions_with_inactive_parameters() -> None:
    """What a process has seen before must not come back in the parameters that do not count."""
    space: dict[str, BaseDistribution] = {}
    for i in range(5):
        space[f"{i}.block"] = CategoricalDistribution(("full", "plain", "none"))
        space[f"{i}.kernel"] = CategoricalDistribution((3, 5, 7))
        space[f"{i}.expansion"] = CategoricalDistribution((1, 3, 6))
    unused = {"full": (), "plain": ("expansion",), "none": ("kernel", "expansion")}

    def canonical(params: dict[str, Any]) -> Mapping[str, Any]:
        out = {f"{i}.{name}" for i in range(5) for name in unused[params[f"{i}.block"]]}
        return {name: value for name, value in params.items() if name not in out}

    def cost(params: Mapping[str, Any]) -> float:
        kept = canonical(dict(params))
        parts = (kept.get(f"{i}.kernel", 1) * kept.get(f"{i}.expansion", 1) for i in range(5))
        return 10.0 + float(sum((i + 1) * part for i, part in enumerate(parts)))

    def trials(restart: int | None) -> list[dict[str, Any]]:
        study = new_study(CostAwareSampler(space, cost, canonical=canonical, seed=0))
        for number in range(40):
            if number == restart:
                study.sampler = CostAwareSampler(space, cost, canonical=canonical, seed=0)
            trial = study.ask(space)
            plain = sum(trial.params[f"{i}.block"] == "plain" for i in range(5))
            accuracy = 1 - 1 / math.log(cost(trial.params) + 10) + 0.02 * plain
            study.tell(trial, (accuracy, cost(trial.params)))
        return [trial.params for trial in study.get_trials()]

    assert trials(restart=20) == trials(restart=None)


def test_a_pickled_sampler_gives_the_same_suggestions() -> None:
    study, copied = (
        new_study(CostAwareSampler(LAYERS, layer_cost, seed=5)),
        new_study(CostAwareSampler(LAYERS, layer_cost, seed=5)),
    )
    run(study, LAYERS, 12)
    run(copied, LAYERS, 12)
    copied.sampler = pickle.loads(pickle.dumps(copied.sampler))
    assert run(study, LAYERS, 3) == run(copied, LAYERS, 3)


def skipping(params: dict[str, Any]) -> dict[str, Any]:
    """After a first layer that is skipped the others do not count: 19 networks of 27."""
    return {"layer0": "skip"} if params["layer0"] == "skip" else params


@pytest.mark.parametrize("listed", [2_000, 0])
def test_every_network_is_suggested_once_then_the_front_again(
    listed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(proposals, "LISTED_SIZE", listed)

    def cost(params: Mapping[str, Any]) -> float:
        return layer_cost(skipping(dict(params)))

    sampler = CostAwareSampler(THREE, cost, canonical=skipping, seed=0)
    study = new_study(sampler)
    seen = {tuple(skipping(p).items()) for p in run(study, THREE, 19, layer_accuracy, cost)}
    assert len(seen) == 19
    assert sampler.exhausted(study)
    front = {cost(trial.params) for trial in sampler.front(study)}
    again = run(study, THREE, 6, layer_accuracy, cost)
    assert {cost(params) for params in again} <= front
    assert len({cost(params) for params in again}) > 1


def test_one_description_gives_the_suggestions_of_separate_functions() -> None:
    def describe(params: dict[str, Any]) -> Facts:
        return Facts(
            layer_cost(params),
            canonical=skipping(params),
            feasible=layer_cost(params) <= 8,
            features=(float(SIZE[params["layer0"]]),),
            work=1 + layer_cost(params),
        )

    separate = CostAwareSampler(
        THREE,
        layer_cost,
        canonical=skipping,
        feasible=lambda p: layer_cost(p) <= 8,
        features=lambda p: (SIZE[p["layer0"]],),
        work=lambda p: 1 + layer_cost(p),
        seed=0,
    )
    together = CostAwareSampler(THREE, describe=describe, seed=0)
    assert run(new_study(together), THREE, 15) == run(new_study(separate), THREE, 15)


def test_a_description_and_other_functions_exclude_each_other() -> None:
    def describe(params: dict[str, Any]) -> Facts:
        return Facts(layer_cost(params))

    for cost in (layer_cost, None):
        with pytest.raises(SpecError, match="expected one of cost and describe, got both or none"):
            CostAwareSampler(THREE, cost, describe=describe if cost else None)
    with pytest.raises(SpecError, match="expected describe alone, got other functions too"):
        CostAwareSampler(THREE, describe=describe, feasible=lambda _: True)


def test_equal_keys_are_one_network() -> None:
    """Only how many layers of each kind there are matters: 45 networks of 6,561."""

    def key(params: dict[str, Any]) -> tuple[str, ...]:
        return tuple(sorted(params.values()))

    sampler = CostAwareSampler(
        LAYERS, lambda p: 1.0 + sum(SIZE[v] for v in p.values()), key=key, seed=0
    )
    asked = run(new_study(sampler), LAYERS, 45)
    assert len({key(params) for params in asked}) == 45


def test_limits_are_never_exceeded_and_both_ends_come_first() -> None:
    def feasible(params: Mapping[str, Any]) -> bool:
        return 5 <= layer_cost(params) <= 15

    study = new_study(CostAwareSampler(LAYERS, layer_cost, feasible=feasible, seed=3))
    costs = [layer_cost(params) for params in run(study, LAYERS, 30)]
    assert costs[:2] == [5, 15]
    assert all(5 <= cost <= 15 for cost in costs)


def test_a_tight_limit_is_met() -> None:
    space: dict[str, BaseDistribution] = {f"width{i}": IntDistribution(1, 64) for i in range(12)}

    def cost(params: Mapping[str, Any]) -> float:
        return float(sum(v**2 for v in params.values()))

    sampler = CostAwareSampler(space, cost, feasible=lambda p: cost(p) <= 60, seed=0)
    asked = run(new_study(sampler), space, 20, lambda p: 1 - 1 / cost(p), cost)
    assert all(cost(params) <= 60 for params in asked)


def test_limits_on_another_cost_than_the_searched_one_are_met() -> None:
    """Most choices leave the peak memory as it is: along it there is no way to the limits."""
    limits = Limits(mult_adds=6_700_000)  # one network in 800 keeps it
    space = load_specification("v1").with_settings(
        {"limits": limits, "objectives": ("accuracy", "peak_activation_bytes")}
    )
    study = optuna.create_study(directions=["maximize", "minimize"])
    study.sampler = make_sampler("cost-aware", space, seed=0)
    network = space.decode(study.ask(distributions(space)).params)
    assert limits.excess(measure(network)) is None


def test_where_drawing_finds_no_feasible_network_a_known_one_is_begun_from() -> None:
    """The path to the limits leads through larger networks, so that no descent finds it."""
    space: dict[str, BaseDistribution] = {f"width{i}": IntDistribution(1, 64) for i in range(6)}

    def cost(params: Mapping[str, Any]) -> float:
        return float(sum(params.values()))

    def feasible(params: Mapping[str, Any]) -> bool:
        return bool(min(params.values()) >= 60)

    with pytest.raises(SpecError, match="no parameter set of the search space was found feasible"):
        new_study(CostAwareSampler(space, cost, feasible=feasible, seed=0)).ask(space)
    start = dict.fromkeys(space, 64)
    sampler = CostAwareSampler(space, cost, feasible=feasible, start=start, seed=0)
    asked = run(new_study(sampler), space, 12, lambda p: 1 - 1 / cost(p), cost)
    assert all(map(feasible, asked))
    assert len({tuple(params.values()) for params in asked}) > 6


def test_where_all_costs_are_equal_accuracy_alone_is_sought() -> None:
    space: dict[str, BaseDistribution] = {"x": IntDistribution(0, 29), "y": IntDistribution(0, 29)}

    def accuracy(params: Mapping[str, Any]) -> float:
        return 0.9 - 0.001 * float((params["x"] - 21) ** 2 + (params["y"] - 17) ** 2)

    study = new_study(CostAwareSampler(space, lambda _: 5.0, seed=0))
    asked = run(study, space, 30, accuracy, lambda _: 5.0)
    assert max(map(accuracy, asked)) > 0.89


def test_networks_that_cannot_be_built_lead_nowhere() -> None:
    stages = [
        {"block": "separable", "channels": c, "stride": {"choices": [1, 2]}}
        for c in range(16, 64, 8)
    ]
    template = {"name": "deep", "resolution": {"choices": [32, 64, 96]}, "stages": stages}
    text = yaml.safe_dump(template | {"stem": {"channels": 16}, "head": {}})
    space = read_specification(parse_document(text, "deep.yaml"))
    costs = []
    for params in space.enumerate_params():
        with suppress(SpecError):
            costs.append(measure(space.decode(params))["mult_adds"])
    limit = round(1.5 * min(costs))
    limited = space.with_settings({"limits": Limits(mult_adds=limit)})
    for seed in range(3):
        study = optuna.create_study(directions=["maximize", "minimize"])
        study.sampler = make_sampler("cost-aware", limited, seed=seed)
        network = limited.decode(study.ask(distributions(limited)).params)
        assert measure(network)["mult_adds"] <= limit


def test_a_walk_that_found_nothing_is_not_made_again() -> None:
    known = CostAwareSampler(THREE, layer_cost, seed=0)._candidates
    everything = KnownNetworks([known.network(row) for row in known.space.all_rows()])
    assert known.first_unknown(everything) is None
    assert known._walked == known.space.size
    assert known.first_unknown(everything) is None
    assert known.first_unknown(KnownNetworks([])) is not None, "what was met is remembered"


def test_start_up_is_even_over_log_cost() -> None:
    space: dict[str, BaseDistribution] = {
        f"factor{number}": CategoricalDistribution((1, 2, 4)) for number in range(12)
    }

    def cost(params: Mapping[str, Any]) -> float:
        return float(math.prod(params.values()))

    study = new_study(CostAwareSampler(space, cost, startup_trials=9, seed=0))
    steps = sorted(math.log(cost(p)) for p in run(study, space, 9, cost, cost))
    assert steps[0] == 0
    assert steps[-1] == pytest.approx(12 * math.log(4))
    assert np.diff(steps) == pytest.approx(np.full(8, steps[-1] / 8), rel=0.35)


def test_the_ends_of_a_large_space_are_exact() -> None:
    space: dict[str, BaseDistribution] = {
        f"p{number}": CategoricalDistribution((3, 1, 2)) for number in range(20)
    }
    study = new_study(CostAwareSampler(space, lambda p: float(sum(p.values())), seed=0))
    costs = [sum(p.values()) for p in run(study, space, 2, lambda p: 0.5, lambda p: 1.0)]
    assert costs == [20, 60]


def test_enqueued_networks_count_as_start_up() -> None:
    study = new_study(CostAwareSampler(LAYERS, layer_cost, startup_trials=3, seed=0))
    middle = dict.fromkeys(LAYERS, "small")
    study.enqueue_trial(middle)
    asked = run(study, LAYERS, 4)
    assert asked[0] == middle
    assert [layer_cost(params) for params in asked[1:3]] == [1, 1 + 3 * 15]
    assert middle not in asked[1:]


def test_simultaneous_suggestions_differ_in_network_and_cost() -> None:
    study = new_study(CostAwareSampler(LAYERS, layer_cost, seed=0))
    run(study, LAYERS, 15, noise=0.01)
    running = [study.ask(LAYERS) for _ in range(6)]
    assert len({tuple(trial.params.values()) for trial in running}) == 6
    assert len({layer_cost(trial.params) for trial in running}) >= 3


def test_threads_of_one_process_never_run_the_same_network() -> None:
    def objective(trial: optuna.Trial) -> tuple[float, float]:
        params = {name: trial.suggest_categorical(name, tuple(SIZE)) for name in THREE}
        return layer_accuracy(params), layer_cost(params)

    study = new_study(CostAwareSampler(THREE, layer_cost, seed=0))
    study.optimize(objective, n_trials=27, n_jobs=4)
    assert len(set(identities(study))) == 27


def test_pruned_failed_and_infinite_trials_are_survived_and_not_suggested_again() -> None:
    study = new_study(CostAwareSampler(LAYERS, layer_cost, seed=0))
    study.add_trial(optuna.trial.create_trial(values=[0.5, 3.0]))
    for number in range(40):
        trial = study.ask(LAYERS)
        if number % 4 == 0:
            study.tell(trial, state=TrialState.PRUNED)
        elif number % 4 == 1:
            study.tell(trial, state=TrialState.FAIL)
        elif number % 4 == 2:
            study.tell(trial, (math.inf if number % 8 == 2 else -math.inf, 1.0))
        else:
            study.tell(trial, (layer_accuracy(trial.params), 1.0))
    assert len(set(identities(study)[1:])) == 40


def test_no_result_at_all_still_gives_new_networks() -> None:
    study = new_study(CostAwareSampler(LAYERS, layer_cost, seed=0))
    for _ in range(12):
        study.tell(study.ask(LAYERS), state=TrialState.FAIL)
    assert len(set(identities(study))) == 12


def test_a_pruned_trial_teaches_but_is_not_on_the_front() -> None:
    sampler = CostAwareSampler(LAYERS, layer_cost, seed=0)
    study = new_study(sampler)
    run(study, LAYERS, 20)
    network = study.ask(LAYERS)
    before, _ = sampler.predict(study, [network.params])
    network.set_user_attr(PARTIAL_ACCURACY, 0.999)
    study.tell(network, state=TrialState.PRUNED)
    after, _ = sampler.predict(study, [network.params])
    assert after[0] > before[0]
    assert network.number not in [trial.number for trial in sampler.front(study)]


def test_inactive_parameters_may_be_missing_from_trials() -> None:
    space: dict[str, BaseDistribution] = {
        "block": CategoricalDistribution(("plain", "expanding")),
        "expansion": IntDistribution(2, 6),
        "depth": IntDistribution(1, 8),
    }

    def cost(params: Mapping[str, Any]) -> float:
        return float(params["depth"] * (1 if params["block"] == "plain" else params["expansion"]))

    def objective(trial: optuna.Trial) -> tuple[float, float]:
        params: dict[str, Any] = {"depth": trial.suggest_int("depth", 1, 8)}
        params["block"] = trial.suggest_categorical("block", ("plain", "expanding"))
        if params["block"] == "expanding":
            params["expansion"] = trial.suggest_int("expansion", 2, 6)
        return 1 - 1 / (1 + cost(params)), cost(params)

    sampler = CostAwareSampler(space, cost, seed=0)
    study = new_study(sampler)
    study.optimize(objective, n_trials=48)
    assert len(set(identities(study))) == 48
    assert sampler.exhausted(study)


def test_features_of_the_caller_reach_the_model() -> None:
    def secret(params: Mapping[str, Any]) -> float:
        digits = [SIZE[value] for value in params.values()]
        return float(np.sin(np.dot(digits, np.arange(1, 9) ** 2)))

    def accuracy(params: Mapping[str, Any]) -> float:
        return 0.5 + 0.3 * secret(params)

    errors = []
    for features in (None, lambda params: [secret(params)]):
        sampler = CostAwareSampler(LAYERS, layer_cost, features=features, seed=0)
        study = new_study(sampler)
        run(study, LAYERS, 40, accuracy)
        rng = np.random.default_rng(0)
        others = [{name: str(rng.choice(list(SIZE))) for name in LAYERS} for _ in range(50)]
        mean, _ = sampler.predict(study, others)
        errors.append(np.abs(mean - [accuracy(one) for one in others]).mean())
    assert errors[1] < 0.3 * errors[0]


@pytest.mark.parametrize("unit", [1.0, 100.0])
def test_predictions_and_front_are_those_of_a_good_model(unit: float) -> None:
    def accuracy(params: Mapping[str, Any]) -> float:
        return unit * layer_accuracy(params)

    sampler = CostAwareSampler(LAYERS, layer_cost, seed=0)
    study = new_study(sampler)
    assert sampler.front(study) == []
    run(study, LAYERS, 60, accuracy, noise=0.01 * unit)
    rng = np.random.default_rng(1)
    others = [{name: str(rng.choice(list(SIZE))) for name in LAYERS} for _ in range(200)]
    mean, deviation = sampler.predict(study, others)
    truth = np.array([accuracy(one) for one in others])
    assert np.corrcoef(mean, truth)[0, 1] > 0.9
    assert np.mean(np.abs(mean - truth) < 3 * deviation) > 0.9
    front = sampler.front(study)
    costs = [layer_cost(trial.params) for trial in front]
    assert costs == sorted(costs)
    expected, _ = sampler.predict(study, [trial.params for trial in front])
    assert (np.diff(expected) > 0).all()


def test_it_beats_random_search() -> None:
    def share(sampler: optuna.samplers.BaseSampler) -> float:
        asked = run(new_study(sampler), LAYERS, 40, noise=0.005)
        log_costs = [math.log(layer_cost(params)) for params in asked]
        return hypervolume([layer_accuracy(p) for p in asked], log_costs, (0.0, math.log(50)))

    for seed in range(2):
        ours = share(CostAwareSampler(LAYERS, layer_cost, seed=seed))
        assert ours > 1.05 * share(optuna.samplers.RandomSampler(seed=seed))


def test_what_accuracies_grow_to_is_searched_and_predicted() -> None:
    """The trials flatter large layers."""

    def growth(params: Mapping[str, Any]) -> float:
        return -0.3 * float(sum(value == "large" for value in params.values()))

    def end(params: Mapping[str, Any]) -> float:
        return add_gain(layer_accuracy(params), growth(params))

    shares = []
    for told in (growth, None):
        sampler = CostAwareSampler(LAYERS, layer_cost, growth=told, seed=0)
        study = new_study(sampler)
        asked = run(study, LAYERS, 40, noise=0.005)
        log_costs = [math.log(layer_cost(params)) for params in asked]
        shares.append(hypervolume([end(p) for p in asked], log_costs, (0.0, math.log(50))))
        mean, _ = sampler.predict(study, asked)
        right = end if told else layer_accuracy
        assert np.mean(np.abs(mean - [right(params) for params in asked])) < 0.01
    assert shares[0] > 1.01 * shares[1]


def test_where_work_is_known_trials_take_less_of_it_in_any_unit() -> None:
    def asked(work: Function | None) -> list[dict[str, Any]]:
        return run(new_study(CostAwareSampler(LAYERS, layer_cost, work=work, seed=0)), LAYERS, 40)

    def seconds(params: Mapping[str, Any]) -> float:
        return layer_cost(params) ** 3

    thrifty = asked(seconds)
    assert sum(map(seconds, thrifty)) < 0.8 * sum(map(seconds, asked(None)))
    assert thrifty == asked(lambda params: 1024 * seconds(params))


WIDE: dict[str, BaseDistribution] = {
    "alpha": IntDistribution(5, 60),
    "side": IntDistribution(32, 128, step=8),
    **{f"layer{number}": CategoricalDistribution(tuple(SIZE)) for number in range(10)},
}
BUDGETS = (2_000.0, 8_000.0)


def wide_cost(params: Mapping[str, Any]) -> float:
    layers = 2 + sum(SIZE[params[f"layer{i}"]] for i in range(10))
    return float((params["alpha"] / 10) ** 2 * (params["side"] / 32) ** 2 * layers)


def wide_accuracy(params: Mapping[str, Any]) -> float:
    """Thin networks at a high resolution are best; layers differ in what they give."""
    gains = [(0.3 + i % 3) * math.sqrt(SIZE[params[f"layer{i}"]]) for i in range(10)]
    quality = 0.5 * math.log(params["alpha"] / 10) + math.log(params["side"] / 32)
    return 1.0 - math.exp(-0.5 * quality - 0.05 * sum(gains) - 0.3)


def within(params: Mapping[str, Any]) -> list[bool]:
    return [wide_cost(params) <= budget for budget in BUDGETS]


def budget_sampler(seed: int) -> CostAwareSampler:
    return CostAwareSampler(WIDE, wide_cost, budgets=within, seed=seed)


def test_budgets_bound_every_suggestion_and_are_used() -> None:
    for seed in range(2):
        study = new_study(budget_sampler(seed))
        costs = [wide_cost(p) for p in run(study, WIDE, 40, wide_accuracy, wide_cost, noise=0.003)]
        assert max(costs) <= BUDGETS[1]
        for number, budget in enumerate(BUDGETS):
            aimed = costs[number::2]
            assert all(budget / 2 <= cost <= budget for cost in aimed[:4]), "start-up"
            assert len(set(aimed[:4])) == 4
            used = sum(cost for cost in aimed if cost >= budget / 2)
            assert used >= 0.6 * sum(aimed)


@pytest.mark.slow
def test_the_best_network_of_each_budget_is_better_than_that_of_a_search_for_the_front() -> None:
    gains = []
    for seed in range(3):
        front = CostAwareSampler(
            WIDE, wide_cost, feasible=lambda p: any(within(dict(p))), work=wide_cost, seed=seed
        )
        best = []
        for sampler in (budget_sampler(seed), front):
            asked = run(new_study(sampler), WIDE, 40, wide_accuracy, wide_cost, noise=0.003)
            best.append(
                [
                    max(wide_accuracy(p) for p in asked if within(p)[number])
                    for number in range(len(BUDGETS))
                ]
            )
        gains.append(np.subtract(best[0], best[1]))
    assert (np.mean(gains, axis=0) > 0).all()


def test_a_resumed_study_with_budgets_gets_the_same_suggestions() -> None:
    whole = run(new_study(budget_sampler(5)), WIDE, 24, wide_accuracy, wide_cost)
    resumed = new_study(budget_sampler(5))
    parts = run(resumed, WIDE, 20, wide_accuracy, wide_cost)
    resumed.sampler = budget_sampler(5)
    assert parts + run(resumed, WIDE, 4, wide_accuracy, wide_cost) == whole


def test_every_network_within_a_budget_is_suggested_once_in_a_small_space() -> None:
    def small(params: Mapping[str, Any]) -> list[bool]:
        return [layer_cost(params) <= 4, layer_cost(params) <= 8]

    inside = sum(
        any(small(dict(zip(THREE, values, strict=True)))) for values in product(SIZE, repeat=3)
    )
    sampler = CostAwareSampler(THREE, layer_cost, budgets=small, seed=0)
    study = new_study(sampler)
    asked = run(study, THREE, inside)
    assert len({tuple(params.values()) for params in asked}) == inside
    assert all(any(small(params)) for params in asked)
    assert sampler.exhausted(study)


THIN: dict[str, BaseDistribution] = {
    "alpha": CategoricalDistribution((0.1, 0.15, 0.2, 0.25, 0.35, 0.5)),
    "resolution": CategoricalDistribution((64, 96, 128, 160, 192)),
    **LAYERS,
}
THIN_BUDGET = 60.0


def thin_cost(params: Mapping[str, Any]) -> float:
    layers = 2 + sum(SIZE[params[name]] for name in LAYERS)
    return float((params["alpha"] / 0.1) ** 1.5 * (params["resolution"] / 64) ** 2 * layers)


def short_logit(params: Mapping[str, Any]) -> float:
    gains = [(0.5 + i % 3) * math.sqrt(SIZE[params[name]]) for i, name in enumerate(LAYERS)]
    return -1 + 0.12 * sum(gains) + 0.5 * math.log(params["alpha"] / 0.1)


def final_accuracy(params: Mapping[str, Any]) -> float:
    """The better a short training, the worse the final one; a high resolution is good."""
    return 1 / (1 + math.exp(0.8 * short_logit(params) - 1.6 - 0.7 * resolution_gain(params)))


def resolution_gain(params: Mapping[str, Any]) -> float:
    return math.log(params["resolution"] / 64)


def gain_of(params: Mapping[str, Any]) -> list[float]:
    depth = sum(params[name] != "skip" for name in LAYERS)
    return [math.log(thin_cost(params)), depth, resolution_gain(params), math.log(params["alpha"])]


def reversed_search(seed: int, with_finals: bool) -> float:
    """Final accuracy of the network that the model chooses among those of a search."""
    sampler = CostAwareSampler(
        THIN,
        thin_cost,
        budgets=lambda params: [thin_cost(params) <= THIN_BUDGET],
        gain_features=gain_of,
        seed=seed,
    )
    study, rng = new_study(sampler), np.random.default_rng(seed)
    finals: dict[str, float] = {}
    for count in range(1, 41):
        trial = study.ask(THIN)
        accuracy = 1 / (1 + math.exp(-short_logit(trial.params))) + rng.normal(0, 0.02)
        study.tell(trial, (accuracy, thin_cost(trial.params)))
        if with_finals and count >= 15 and count % 5 == 0:
            chosen = sampler.finalists(study, 2)
            assert len(set(chosen)) == 2
            assert not finals.keys() & {str(number) for number in chosen}
            for number in chosen:
                noisy = final_accuracy(study.trials[number].params) + rng.normal(0, 0.005)
                finals[str(number)] = noisy
            study.set_user_attr(FINALS, finals)
    tried = [trial.params for trial in study.trials]
    mean, _ = sampler.predict(study, tried)
    return final_accuracy(tried[int(np.argmax(mean))])


@pytest.mark.slow
def test_finals_find_the_best_network_where_short_trainings_rank_the_wrong_way() -> None:
    names = list(THIN)
    networks = (dict(zip(names, values, strict=True)) for values in product(*map(values_of, THIN)))
    best = max(map(final_accuracy, (n for n in networks if thin_cost(n) <= THIN_BUDGET)))
    found = [reversed_search(seed, with_finals=True) for seed in range(7)]
    misled = [reversed_search(seed, with_finals=False) for seed in range(2)]
    assert sum(accuracy >= best - 0.01 for accuracy in found) >= 6
    assert sum(accuracy >= best - 0.01 for accuracy in misled) == 0


def values_of(name: str) -> tuple[Any, ...]:
    distribution = THIN[name]
    assert isinstance(distribution, CategoricalDistribution)
    return tuple(distribution.choices)


def test_anchors_are_learned_from_and_not_suggested() -> None:
    study = new_study(budget_sampler(0))
    rng = np.random.default_rng(0)
    anchors: list[dict[str, Any]] = []
    for _ in range(8):
        params = {
            "alpha": int(rng.integers(5, 20)),
            "side": 64,
            **{f"layer{i}": str(rng.choice(list(SIZE))) for i in range(10)},
        }
        anchors.append({"params": params, "accuracy": wide_accuracy(params)})
    study.set_user_attr(ANCHORS, anchors)
    first = study.ask(WIDE)
    assert first.params not in [anchor["params"] for anchor in anchors]
    sampler = study.sampler
    assert isinstance(sampler, CostAwareSampler)
    mean, deviation = sampler.predict(study, [anchor["params"] for anchor in anchors])
    assert mean == pytest.approx([anchor["accuracy"] for anchor in anchors], abs=0.02)
    assert deviation.max() < 0.05
    study.set_user_attr(ANCHORS, [{**anchor, "final": 0.9} for anchor in anchors])
    mean, _ = sampler.predict(study, [anchor["params"] for anchor in anchors])
    assert mean == pytest.approx(np.full(8, 0.9), abs=0.02)
    assert sampler.finalists(study, 3) == []
    assert sampler.front(study) == []


def test_a_budget_that_no_network_keeps_is_refused() -> None:
    sampler = CostAwareSampler(
        LAYERS, layer_cost, budgets=lambda p: [layer_cost(p) < 0, True], seed=0
    )
    with pytest.raises(SpecError, match="budgets: no network was found within budget 1"):
        new_study(sampler).ask(LAYERS)


def test_memory_of_networks_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(candidates, "CACHE_SIZE", 50)
    sampler = CostAwareSampler(LAYERS, layer_cost, seed=5)
    forgetful = run(new_study(sampler), LAYERS, 12)
    assert len(sampler._candidates._cache) == 50
    monkeypatch.undo()
    assert forgetful == run(new_study(CostAwareSampler(LAYERS, layer_cost, seed=5)), LAYERS, 12)


def test_the_documented_example_runs() -> None:
    results = doctest.testfile(str(DOCS / "sampler.md"), module_relative=False)
    assert results.attempted >= 8
    assert results.failed == 0


@pytest.mark.parametrize("name", ["gp", "nsga2", "random", "tpe"])
def test_a_study_of_the_largest_seed_is_resumed(name: str) -> None:
    make_sampler(name, load_specification("tiny"), seed=2**32 - 1, trials=3)
