from __future__ import annotations

from itertools import product
from pathlib import Path
from random import Random

import jsonschema
import pytest
import yaml
from former_spaces import FORMER_V2

from mbsearch.config.budgets import Limits
from mbsearch.config.schema import json_schema
from mbsearch.config.specification import (
    SearchSpecification,
    baseline_architectures,
    load,
    load_specification,
    read_specification,
)
from mbsearch.config.survey import require_feasible, sample_by_cost, survey
from mbsearch.cost import measure
from mbsearch.errors import SpecError
from mbsearch.space.architecture import Architecture
from mbsearch.space.library import find, load_reference, reference_names, space_names
from mbsearch.space.space import read_architecture
from mbsearch.space.yaml_source import parse_document

CONDITIONAL = """
name: conditional
resolution: {choices: [64, 96]}
stem: {channels: 16}
stages:
  choices:
    - - block: {choices: [inverted_residual, separable]}
        channels: 24
        stride: 2
        expansion: {choices: [3, 6]}
        kernel: {choices: [3, 5]}
      - choices:
        - {block: identity, channels: 24}
        - {block: standard, channels: {choices: [24, 32]}}
    - - {block: separable, channels: {choices: [32, 64, 96]}}
head: {choices: [{}, {channels: 128}]}
"""

# NAS-Bench-Macro (arXiv 2103.11922): 8 layers of 3 kinds; 6,561 encodings, 3,969 networks.
_LAYERS = [(64, 2), (64, 1), (128, 2), (128, 1), (128, 1), (256, 2), (256, 1), (256, 1)]
_LAYER = """
  - choices:
    - {{block: identity, channels: {c}, stride: {s}}}
    - {{block: inverted_residual, channels: {c}, stride: {s}, kernel: 3, expansion: 3}}
    - {{block: inverted_residual, channels: {c}, stride: {s}, kernel: 5, expansion: 6}}"""
MACRO = (
    "name: macro\nresolution: 32\nactivation: relu\nnum_classes: 10\n"
    "stem: {channels: 32, stride: 1}\nhead: {channels: 1280}\nstages:"
    + "".join(_LAYER.format(c=c, s=s) for c, s in _LAYERS)
    + "\n"
)


def space_of(text: str) -> SearchSpecification:
    return read_specification(parse_document(text, "space.yaml"))


def all_spaces() -> list[SearchSpecification]:
    return [space_of(CONDITIONAL), *map(load_specification, space_names())]


@pytest.mark.parametrize("space", all_spaces(), ids=lambda s: s.name)
def test_decode_and_encode_are_inverses_on_the_canonical_form(space: SearchSpecification) -> None:
    rng = Random(1)
    for _ in range(100):
        params = space.sample_params(rng)
        network = space.decode(params)
        assert space.encode(network) == params
        assert space.canonical(space.complete(params)) == params
        assert space.decode(space.complete(params)) == network


@pytest.mark.parametrize("space", all_spaces(), ids=lambda s: s.name)
def test_a_space_reads_back_from_its_own_yaml(space: SearchSpecification) -> None:
    assert read_specification(parse_document(space.to_yaml(), "copy.yaml")) == space


@pytest.mark.parametrize("space", all_spaces(), ids=lambda s: s.name)
def test_candidates_read_back_from_their_own_yaml(space: SearchSpecification) -> None:
    for seed in range(30):
        network = space.sample(seed)
        again = read_architecture(parse_document(network.to_yaml(), "copy.yaml"))
        assert again == network
        assert again.fingerprint == network.fingerprint


@pytest.mark.parametrize("name", reference_names())
def test_references_read_back_from_their_own_yaml(name: str) -> None:
    network = load_reference(name)
    assert read_architecture(parse_document(network.to_yaml(), "copy.yaml")) == network


def test_size_equals_the_number_of_enumerated_encodings() -> None:
    for space in (space_of(CONDITIONAL), load_specification("tiny")):
        encodings = [tuple(sorted(p.items())) for p in space.enumerate_params()]
        assert len(encodings) == len(set(encodings)) == space.size
    # (4 + 2) first stages times (1 + 2) second ones, or 3 single stages; 2 heads, 2 resolutions.
    assert space_of(CONDITIONAL).size == (6 * 3 + 3) * 2 * 2


def test_sampling_is_uniform_over_the_encodings() -> None:
    space, rng, draws = space_of(CONDITIONAL), Random(0), 8400
    counts: dict[tuple[tuple[str, object], ...], int] = {}
    for _ in range(draws):
        key = tuple(sorted(space.sample_params(rng).items()))
        counts[key] = counts.get(key, 0) + 1
    assert len(counts) == space.size
    expected = draws / space.size
    chi_squared = sum((n - expected) ** 2 / expected for n in counts.values())
    assert chi_squared < 83 + 4 * (2 * 83) ** 0.5


def test_nas_bench_macro_has_its_published_size_and_duplicates() -> None:
    space = space_of(MACRO)
    assert space.size == 6561
    networks = {space.decode(params).fingerprint for params in space.enumerate_params()}
    assert len(networks) == 3969


@pytest.mark.parametrize(
    ("code", "params", "mult_adds"),
    [("02012100", 890_666, 47_327_744), ("11111221", 2_181_386, 65_012_224)],
)
def test_costs_of_nas_bench_macro_networks_equal_its_table(
    code: str, params: int, mult_adds: int
) -> None:
    space = space_of(MACRO)
    names = [choice.name for choice in space.choices]
    network = space.decode(dict(zip(names, map(int, code), strict=True)))
    costs = measure(network)
    assert costs["params"] == params
    assert costs["mult_adds"] == pytest.approx(mult_adds, rel=0.02)


def test_fingerprints_depend_on_the_network_only() -> None:
    network = load_reference("mobilenet_v2")
    assert network.replace(name="other").fingerprint == network.fingerprint
    for other in (network.replace(alpha=0.5), network.replace(resolution=192)):
        assert other.fingerprint != network.fingerprint


def test_alpha_is_rounded_by_the_rule_of_each_family() -> None:
    v1, v2 = load_reference("mobilenet_v1"), load_reference("mobilenet_v2")
    assert [v1.replace(alpha=a).scale(32) for a in (0.1, 0.25, 0.7, 1.0)] == [8, 8, 22, 32]
    assert [v2.replace(alpha=a).scale(24) for a in (0.35, 0.5, 0.75, 1.4)] == [8, 16, 24, 32]


def test_parameters_are_named_by_their_path_in_the_yaml() -> None:
    assert [c.name for c in space_of(CONDITIONAL).choices] == [
        "resolution",
        "stages",
        "stages.choices.0.0.block",
        "stages.choices.0.0.expansion",
        "stages.choices.0.0.kernel",
        "stages.choices.0.1",
        "stages.choices.0.1.choices.1.channels",
        "stages.choices.1.0.channels",
        "head",
    ]


def test_an_unknown_missing_or_wrong_parameter_is_named() -> None:
    space = load_specification("tiny")
    params = space.complete({})
    with pytest.raises(SpecError, match=r"^alhpa: expected a parameter of the space tiny"):
        space.decode(params | {"alhpa": 1})
    with pytest.raises(SpecError, match=r"^alpha: expected one of 0\.25, 0\.5, got 0\.6$"):
        space.decode(params | {"alpha": 0.6})
    del params["alpha"]
    with pytest.raises(SpecError, match=r"^alpha: expected one of 0\.25, 0\.5, got no value$"):
        space.decode(params)


def test_encoding_a_network_outside_the_space_names_the_difference() -> None:
    with pytest.raises(SpecError, match=r"mobilenet_v2 is not in the space tiny: resolution: 224"):
        load_specification("tiny").encode(load_reference("mobilenet_v2"))


def test_replace_refuses_values_out_of_range() -> None:
    with pytest.raises(SpecError, match=r"alpha: expected a number > 0, got -1"):
        load_reference("mobilenet_v2").replace(alpha=-1)


def test_baselines_combine_all_alphas_and_resolutions() -> None:
    names = [network.name for _, network in baseline_architectures(load_specification("tiny"))]
    expected = [
        f"{family}-{alpha}-{resolution}"
        for (family, alpha), resolution in product(
            [("mobilenet_v1", 0.25), ("mobilenet_v2", 0.35)], [96, 128]
        )
    ]
    assert sorted(names) == sorted(expected)


def test_packaged_spaces_have_feasible_networks_and_references() -> None:
    blocks = {
        b
        for choice in load_specification("mixed").choices
        if choice.name.endswith(".block")
        for b in choice.values
    }
    assert blocks == {
        "standard",
        "separable",
        "inverted_residual",
        "bottleneck",
        "spatial_separable",
        "identity",
    }
    for name in space_names():
        space = load_specification(name)
        require_feasible(space)
        origins = {origin for origin, _ in baseline_architectures(space)}
        assert space.settings.references == "auto" or {"mobilenet_v1", "mobilenet_v2"} <= origins


def test_survey_of_a_small_space_is_exact() -> None:
    found = survey(space_of(MACRO))
    assert found.exact
    assert found.surveyed == 6561
    assert found.duplicate_share == pytest.approx(1 - 3969 / 6561)


def test_survey_does_not_count_unbuildable_encodings_as_duplicates() -> None:
    stage = "  - {block: separable, channels: 16, stride: 2}\n"
    text = "name: deep\nresolution: {choices: [16, 224]}\nstem: {channels: 16}\nstages:\n"
    found = survey(space_of(text + 5 * stage + "head: {}\n"))
    assert (found.duplicate_share, found.unbuildable_share) == (0.0, 0.5)


def test_limits_that_few_networks_keep_are_feasible() -> None:
    """The effect of a choice between stages depends on the choices inside of them."""
    mixed = load_specification("mixed").with_settings(
        {"limits": Limits(peak_activation_bytes=350_000)}
    )
    require_feasible(mixed)
    stages = "\n    - - {block: inverted_residual, channels: 24, expansion: 4}"
    stages += "\n    - - {block: inverted_residual, channels: 24, expansion: {choices: [6, 1]}, "
    stages += "repeats: {choices: [4, 1]}}"
    space = space_of(
        "name: two\nresolution: 32\nstem: {channels: 16}\nhead: {}\nstages:\n  choices:" + stages
    )
    least = min(measure(space.decode(p))["mult_adds"] for p in space.enumerate_params())
    require_feasible(space.with_settings({"limits": Limits(mult_adds=least)}))
    with pytest.raises(SpecError, match="expected a space with a network within them"):
        require_feasible(space.with_settings({"limits": Limits(mult_adds=least - 1)}))


def test_a_sample_keeps_limits_that_few_networks_keep() -> None:
    """None of 3,000 random networks of this space is within the limits."""
    limits = Limits(mult_adds=8_300_000)
    networks = sample_by_cost(
        load_specification(FORMER_V2).with_settings({"limits": limits}), 12, seed=0
    )
    assert len({network.fingerprint for network in networks}) == 12
    assert all(limits.excess(measure(network)) is None for network in networks)
    impossible = Limits(mult_adds=1)
    assert (
        sample_by_cost(
            load_specification(FORMER_V2).with_settings({"limits": impossible}), 3, seed=0
        )
        == []
    )


def test_a_merged_anchor_can_be_reused() -> None:
    stages = "  - &a {block: separable, channels: 24}\n  - &b {<<: *a, channels: 32}\n  - *b\n"
    text = f"name: merged\nresolution: 32\nstem: {{channels: 16}}\nhead: {{}}\nstages:\n{stages}"
    document = parse_document(text, "m.yaml")
    assert [stage["channels"] for stage in document.data["stages"]] == [24, 32, 32]
    with pytest.raises(SpecError, match=r"m.yaml:7: stages.1.channels: expected every key once"):
        parse_document(text.replace("32}", "32, channels: 8}"), "m.yaml")


@pytest.mark.parametrize("name", ["v1", "v2", "mixed"])
def test_survey_finds_the_ends_of_a_large_space(name: str) -> None:
    space = load_specification(name)
    found = survey(space, sample_size=50)
    assert not found.exact
    first, last = (space.decode({c.name: c.values[i] for c in space.choices}) for i in (0, -1))
    for network in (first, last, *map(space.sample, range(100))):
        assert found.min_mult_adds <= measure(network)["mult_adds"] <= found.max_mult_adds


def test_survey_warns_when_the_final_map_is_a_single_pixel() -> None:
    assert not survey(load_specification("tiny")).warnings
    assert "falls to 1x1" in survey(load_specification("v2"), sample_size=50).warnings[0]


def test_load_prefers_files_to_packaged_spaces_and_references(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert isinstance(load("v2.yaml"), SearchSpecification)
    assert isinstance(load("mobilenet_v2"), Architecture)
    (tmp_path / "v2.yaml").write_text(load_reference("mobilenet_v1").to_yaml())
    assert isinstance(load("v2.yaml"), Architecture)


@pytest.mark.parametrize("name", space_names())
def test_schema_accepts_packaged_spaces_and_refuses_mistakes(name: str) -> None:
    document = yaml.safe_load(find(name).read_text())
    jsonschema.validate(document, json_schema())
    for mistake in ({"alpha": "wide"}, {"alfa": 1.0}, {"limits": {"mult_adds": True}}):
        with pytest.raises(jsonschema.ValidationError):
            jsonschema.validate(document | mistake, json_schema())


def test_schema_allows_choices_of_all_keys_but_the_classes() -> None:
    schema = json_schema()
    stage = schema["$defs"]["Stage"]["properties"]
    for leaf in (schema["properties"]["alpha"], stage["block"], stage["kernel"]):
        assert "choices" in leaf["anyOf"][1]["properties"]
    assert "anyOf" not in schema["properties"]["num_classes"]
