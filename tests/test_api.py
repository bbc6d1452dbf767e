from __future__ import annotations

import subprocess
import sys

import pytest

import mbsearch as mb


def test_public_names_exist() -> None:
    assert sorted(mb.__all__) == mb.__all__
    for name in mb.__all__:
        assert getattr(mb, name) is not None


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="no attribute 'TurboSampler'"):
        mb.TurboSampler  # noqa: B018


def test_import_and_counting_do_not_import_slow_libraries() -> None:
    code = (
        "import sys, mbsearch as mb; mb.measure(mb.load('v2.yaml').sample(0)); "
        "print(sorted({'torch', 'optuna', 'pandas', 'plotly', 'numpy'} & set(sys.modules)))"
    )
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert shown.stdout.strip() == "[]"


def test_build_gives_the_network_that_was_measured() -> None:
    network = mb.load("mobilenet_v2")
    assert isinstance(network, mb.Architecture)
    module = mb.build(network)
    params = sum(p.numel() for p in module.parameters())
    assert params == mb.measure(network)["params"]
