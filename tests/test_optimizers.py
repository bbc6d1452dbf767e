from __future__ import annotations

import copy

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from mbsearch.accel.optimizers import AdamW
from mbsearch.training.loop import decay_groups


def network() -> nn.Module:
    torch.manual_seed(0)
    # A bias before the batch norm would have no gradient but rounding, and AdamW follows its sign.
    convolution = nn.Conv2d(3, 4, 3, bias=False)
    layers = nn.Sequential(convolution, nn.BatchNorm2d(4), nn.Flatten(), nn.Linear(144, 2))
    return layers.to(memory_format=torch.channels_last)


def train(module: nn.Module, optimizer: torch.optim.Optimizer, steps: range) -> list[Tensor]:
    for step in steps:
        generator = torch.Generator().manual_seed(step)
        x = torch.randn(8, 3, 8, 8, generator=generator)
        optimizer.param_groups[0]["lr"] = 0.01 / (step + 1)
        optimizer.zero_grad()
        F.cross_entropy(module(x), torch.arange(8) % 2).backward()  # type: ignore[no-untyped-call]
        optimizer.step()
    return [parameter.detach().clone() for parameter in module.parameters()]


def test_steps_are_those_of_torchs_adamw() -> None:
    ours, theirs = network(), network()
    expected = train(
        theirs, torch.optim.AdamW(decay_groups(theirs.parameters(), 0.1), lr=0.01), range(5)
    )
    got = train(ours, AdamW(decay_groups(ours.parameters(), 0.1), 0.01), range(5))
    for a, b in zip(got, expected, strict=True):
        torch.testing.assert_close(a, b)


def test_states_of_both_adamws_are_interchangeable() -> None:
    """Each resumes from a state saved by the other, with the same result."""
    module = network()
    first = AdamW(decay_groups(module.parameters(), 0.1), 0.01)
    train(module, first, range(3))
    saved, weights = copy.deepcopy(first.state_dict()), copy.deepcopy(module.state_dict())
    whole = train(module, first, range(3, 6))
    ends = []
    for again in (AdamW(decay_groups(module.parameters(), 0.1), 0.01), None):
        module.load_state_dict(weights)
        optimizer = again or torch.optim.AdamW(
            decay_groups(module.parameters(), 0.1), lr=0.01, fused=True
        )
        optimizer.load_state_dict(copy.deepcopy(saved))
        ends.append(train(module, optimizer, range(3, 6)))
    for one, other, expected in zip(*ends, whole, strict=True):
        assert torch.equal(one, expected)
        assert torch.equal(other, expected)
