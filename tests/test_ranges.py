"""Ranges of numbers: exact values, the YAML, the sampler's axes, error messages."""

import time
from collections.abc import Mapping
from decimal import Decimal
from random import Random

import jsonschema
import numpy as np
import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from mbsearch.config.schema import json_schema
from mbsearch.config.specification import SearchSpecification, read_specification
from mbsearch.errors import SpecError
from mbsearch.search.factory import distributions
from mbsearch.search.sampler.parameters import ChoiceSpace
from mbsearch.space.ranges import Range
from mbsearch.space.yaml_source import parse_document

REST = "stem: {channels: 16}\nstages: [{block: separable, channels: 16}]\n"


def space_of(**keys: str) -> SearchSpecification:
    lines = "".join(f"{key}: {value}\n" for key, value in keys.items())
    return read_specification(parse_document(lines + REST, "s.yaml"))


@given(st.integers(-500, 500), st.integers(1, 40), st.integers(0, 200), st.integers(0, 3))
def test_values_are_exact_decimals(low: int, step: int, steps: int, digits: int) -> None:
    scale = Decimal(10) ** -digits
    expected = [(low + i * step) * scale for i in range(steps + 1)]
    ends = float(expected[0]), float(expected[-1])
    values = Range(*ends, float(step * scale)).values
    assert values == tuple(float(value) for value in expected)


def test_the_number_of_steps_has_no_limit_of_precision() -> None:
    assert Range(0.1, 1e30, 0.01).steps == 10**32 - 10


def test_a_range_equals_the_list_of_its_numbers() -> None:
    space = space_of(
        alpha="{range: [0.1, 1.4], step: 0.01}", resolution="{range: [96, 256], step: 16}"
    )
    listed = space_of(
        alpha=str({"choices": [k / 100 for k in range(10, 141)]}),
        resolution=str({"choices": [*range(96, 257, 16)]}),
    )
    by_name = {choice.name: choice.values for choice in space.choices}
    assert by_name == {choice.name: choice.values for choice in listed.choices}
    assert all(isinstance(value, int) for value in by_name["resolution"])
    assert space.size == listed.size == 131 * 11
    assert space.fingerprint == listed.fingerprint
    assert list(space.enumerate_params()) == list(listed.enumerate_params())
    for seed in range(20):
        params = space.sample_params(Random(seed))
        assert params == listed.sample_params(Random(seed))
        assert space.encode(space.decode(params)) == params


def test_the_last_number_is_at_most_the_upper_end() -> None:
    assert Range(1, 10, 4).values == (1, 5, 9)
    assert Range(0.1, 0.35, 0.1).values == (0.1, 0.2, 0.3)
    assert Range(3, 3, 1).values == (3,)


def test_a_logarithmic_range_has_equal_ratios_between_exact_ends() -> None:
    values = Range(0.05, 1.6, None, points=6).values
    assert values == (0.05, 0.1, 0.2, 0.4, 0.8, 1.6)
    whole = Range(16, 64, None, points=40).values
    assert all(isinstance(value, int) for value in whole)
    assert whole == tuple(sorted(set(whole)))
    assert (whole[0], whole[-1]) == (16, 64)


@pytest.mark.parametrize(
    "text",
    [
        "{range: [0.1, 1.4], step: 0.01}",
        "{range: [0.1, 1], step: 0.1, log: false}",
        "{range: [0.1, 1.4], log: true}",
        "{range: [0.1, 1.4], log: true, points: 7}",
    ],
)
def test_a_range_reads_back_from_its_yaml(text: str) -> None:
    space = space_of(alpha=text)
    jsonschema.validate(yaml.safe_load(f"alpha: {text}\n{REST}"), json_schema())
    written = yaml.safe_load(space.to_yaml())["alpha"]
    jsonschema.validate(yaml.safe_load(space.to_yaml()), json_schema())
    assert written["range"] == yaml.safe_load(text)["range"]
    again = read_specification(parse_document(space.to_yaml(), "s.yaml"))
    assert again.choices == space.choices
    assert again.fingerprint == space.fingerprint
    assert again.to_yaml() == space.to_yaml()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{range: []}", "alpha.range: expected two numbers [low, high], got an empty list"),
        ("{range: 3, step: 1}", "alpha.range: expected two numbers [low, high], got 3"),
        ("{range: [1, 2, 3], step: 1}", "alpha.range: expected two numbers [low, high], got 3 it"),
        ("{range: [a, 2], step: 1}", "alpha.range.0: expected a finite number, got 'a'"),
        ("{range: [1, .inf], step: 1}", "alpha.range.1: expected a finite number, got inf"),
        ("{range: [1, true], step: 1}", "alpha.range.1: expected a finite number, got true"),
        ("{range: [1.4, 0.1], step: 0.1}", "alpha.range: expected low <= high, got 1.4 > 0.1"),
        ("{range: [0.1, 1.4], step: 0}", "alpha.step: expected a number > 0, got 0"),
        ("{range: [0.1, 1.4], step: -1}", "alpha.step: expected a number > 0, got -1"),
        ("{range: [0.1, 1.4]}", "alpha: expected a step or log: true beside the range"),
        ("{range: [0, 1], step: 0.001}", "alpha: expected at most 1,000 values, got 1,001: use"),
        ("{range: [1, 2], step: 1, choices: [1]}", "alpha.range: expected no other key beside"),
        ("{range: [1, 2], stop: 1}", "alpha.stop: unknown key of a range, expected one of range, "),
        ("{range: [1, 2], step: 1, log: true}", "alpha.step: expected none with log: true"),
        ("{range: [1, 2], step: 1, points: 3}", "alpha.points: expected only with log: true"),
        ("{range: [1, 2], log: 1}", "alpha.log: expected true or false, got 1"),
        ("{range: [0, 2], log: true}", "alpha.range.0: expected a number > 0 with log: true, got"),
        ("{range: [1, 2], log: true, points: 1}", "alpha.points: expected an integer from 2 to 1,"),
        ("{range: [0, 2], step: 0.5}", "alpha.range: expected a number > 0, got 0.0"),
        ("{rang: [1, 2]}", "alpha: unknown key 'rang'; did you mean 'range'?"),
    ],
)
def test_mistakes_in_a_range_are_named_with_file_line_and_path(text: str, message: str) -> None:
    with pytest.raises(SpecError) as caught:
        space_of(resolution="96", alpha=text)
    assert str(caught.value).startswith(f"s.yaml:2: {message}")


def test_an_option_of_the_wrong_kind_is_refused() -> None:
    with pytest.raises(SpecError, match=r"s.yaml:1: resolution.range: expected an integer"):
        space_of(resolution="{range: [96, 128], step: 0.5}")
    with pytest.raises(SpecError, match=r"activation.range: expected one of relu"):
        space_of(activation="{range: [1, 2], step: 1}")


def test_a_mismatch_names_the_nearest_numbers_of_a_range() -> None:
    space = space_of(alpha="{range: [0.35, 1.4], step: 0.05}")
    network = space.sample(0)
    for alpha, reason in ((0.2, "starts at 0.35"), (2.0, "ends at 1.4"), (0.37, "has 0.35 and")):
        with pytest.raises(SpecError, match=f"alpha: {alpha} where the space {reason}"):
            space.encode(network.replace(alpha=alpha))


def axes_of(keys: Mapping[str, str]) -> ChoiceSpace:
    return ChoiceSpace(distributions(space_of(**keys)))


def test_neighbours_along_a_long_range_are_near_and_far() -> None:
    space = axes_of({"alpha": "{range: [0.05, 1.4], step: 0.01}"})
    row, active = np.array([60.0]), np.array([True])
    reached = {abs(int(other[0]) - 60) for other in space.neighbours(row, active, reach=4)}
    assert 1 in reached
    assert any(2 < step < 30 for step in reached)
    assert any(step > 60 for step in reached)
    rng = np.random.default_rng(0)
    steps = np.array([abs(space.mutate(rng, row, active)[0] - 60) for _ in range(2000)])
    assert steps.min() == 1
    assert np.mean(steps <= 20) > 0.35
    assert np.mean(steps > 40) > 0.15
    drawn = space.draw(rng, 5000)[:, 0]
    assert (drawn.min(), drawn.max()) == (0, 135)
    assert np.ptp(np.histogram(drawn, 8)[0]) < 250  # 625 each
    assert space.axes[0].ordered


def test_long_ranges_are_fast() -> None:
    keys = {
        "alpha": "{range: [0.05, 1.4], step: 0.01}",
        "resolution": "{range: [40, 1000], step: 1}",
    }
    space, network_space = axes_of(keys), space_of(**keys)
    rng = np.random.default_rng(0)
    start = time.process_time()
    for row in space.draw(rng, 500):
        params = space.decode(row)
        assert space.encode(params) is not None
        network_space.decode_canonical(params)
        space.neighbours(row, np.array([True, True]), reach=4)
    assert time.process_time() - start < 1
