"""References of a budget: within it, as wide as it allows, and filling it."""

import time
from itertools import product
from random import Random

import numpy as np
import pytest

from mbsearch.config.budgets import Budget, Limits
from mbsearch.config.families import COMPARED, scaled_reference
from mbsearch.config.specification import load_specification
from mbsearch.cost import measure
from mbsearch.errors import SpecError
from mbsearch.search.factory import distributions
from mbsearch.search.references import fitting_references
from mbsearch.search.sampler.parameters import ChoiceSpace

BUDGETS = ("2M", "5M", "10M", "20M", "50M", "100M")


@pytest.mark.parametrize("published", [True, False])
@pytest.mark.parametrize("family", COMPARED)
def test_references_are_the_widest_that_fill_a_budget(family: str, published: bool) -> None:
    for size in BUDGETS:
        budget = Budget.model_validate({"mult_adds": size})
        found = fitting_references(family, budget, num_classes=10, published=published)
        assert [n.resolution for n in found] == sorted({n.resolution for n in found})
        for network in found:
            assert network.num_classes == 10
            assert network.name == f"{COMPARED[family].name} {network.alpha:g}/{network.resolution}"
            assert budget.excess(measure(network)) is None
            if network.alpha < 1.4:
                wider = network.replace(alpha=round(network.alpha + 0.01, 2))
                assert budget.excess(measure(wider)) is not None
        filled = [budget.used_share(measure(n)) >= 0.85 for n in found]
        assert all(filled) or len(found) <= 6
        assert published or found


def test_published_references_keep_the_papers_widths_and_resolutions() -> None:
    for family, size in product(COMPARED, BUDGETS):
        budget = Budget.model_validate({"mult_adds": size})
        found = fitting_references(family, budget, num_classes=10, published=True)
        least = 0.25 if family == "mobilenet_v1" else 0.35
        assert all(n.alpha >= least and n.resolution.shorter >= 96 for n in found)
    two = Budget.model_validate({"mult_adds": "2M"})
    assert fitting_references("mobilenet_v2", two, num_classes=10, published=True) == []


def test_references_keep_every_bound_of_a_budget_and_the_limits() -> None:
    budget = Budget.model_validate({"mult_adds": "20M", "params": "200k"})
    limits = Limits.model_validate({"peak_activation_bytes": "600k"})
    found = fitting_references(
        "mobilenet_v1", budget, num_classes=10, published=False, limits=limits
    )
    assert found
    for network in found:
        costs = measure(network)
        assert budget.excess(costs) is None
        assert limits.excess(costs) is None


def test_references_of_three_families_are_found_in_a_second() -> None:
    budget = Budget.model_validate({"mult_adds": "20M"})
    start = time.process_time()
    for family in COMPARED:
        fitting_references(family, budget, num_classes=10, published=False)
    assert time.process_time() - start < 1


@pytest.mark.parametrize("published", [True, False])
@pytest.mark.parametrize("name", ["v2", "mixed"])
def test_shipped_spaces_hold_every_reference_of_every_budget(name: str, published: bool) -> None:
    space = load_specification(name)
    for family, size in product(COMPARED, BUDGETS):
        budget = Budget.model_validate({"mult_adds": size})
        for classes in (10, 1000):
            found = fitting_references(family, budget, num_classes=classes, published=published)
            for network in found:
                params = space.with_classes(classes).encode(network)
                decoded, canonical = space.with_classes(classes).decode_canonical(params)
                assert canonical == params
                assert decoded.replace(name=network.name) == network


@pytest.mark.parametrize("family", COMPARED)
@pytest.mark.parametrize("name", ["v2", "mixed"])
def test_shipped_spaces_hold_references_at_any_width_and_resolution(name: str, family: str) -> None:
    space = load_specification(name)
    values = {choice.name: choice.values for choice in space.choices}
    for alpha, resolution in product(values["alpha"][::5], values["resolution"][::4]):
        assert isinstance(alpha, float)
        assert isinstance(resolution, int)
        network = scaled_reference(family, alpha, resolution)
        assert space.decode(space.encode(network)).replace(name=network.name) == network


@pytest.mark.parametrize("name", ["v2", "mixed"])
def test_random_networks_of_shipped_spaces_are_encoded_as_they_were_drawn(name: str) -> None:
    space = load_specification(name)
    for seed in range(200):
        params = space.sample_params(Random(seed))
        assert space.encode(space.decode(params)) == params
    drawn = ChoiceSpace(distributions(space))
    for row in drawn.draw(np.random.default_rng(0), 200):  # every skeleton
        network, params = space.decode_canonical(drawn.decode(row))
        assert space.encode(network) == params
        measure(network)  # its strides leave pixels


def test_an_unknown_family_is_refused() -> None:
    with pytest.raises(SpecError, match=r"expected one of .*mobilenet_v2"):
        scaled_reference("mobilenet_v9", 1.0, 224)
