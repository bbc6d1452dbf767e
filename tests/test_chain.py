from __future__ import annotations

import copy
import itertools
import math
from functools import partial

import pytest
import torch
from fused_layers import accelerated, depthwise, pointwise
from torch import Tensor, nn

from mbsearch.accel.chain import chained, fits, link
from mbsearch.accel.fusion import FusedConvolution
from mbsearch.accel.kernels.passes import WIDEST
from mbsearch.space.library import load_reference
from mbsearch.training.loop import compile_ahead
from mbsearch.training.network import build

ACTIVATIONS = [nn.Identity(), nn.ReLU(), nn.ReLU6()]
KERNELS = [(1, 1), (3, 3), (5, 5), (7, 7), (9, 9), (5, 1), (1, 3)]
SIDES = [(1, 1), (2, 2), (4, 4), (7, 5), (1, 3), (9, 2)]
STRIDES = [(1, 1), (2, 2), (3, 3), (4, 4), (1, 2), (2, 1)]


@pytest.fixture(autouse=True)
def kernels(one_thread: None) -> None:
    """Compiled kernels; waits for another process that compiles them."""
    compile_ahead(torch.device("cpu"))


class Layers(nn.Sequential):
    """Convolutions, each with batch norm and activation."""

    def links(self, x: Tensor) -> Tensor:
        links = [link(*self[i : i + 3], first=i == 0) for i in range(0, len(self), 3)]
        assert all(links)
        return chained([each for each in links if each is not None], x)


def layers(*convs: nn.Conv2d, activation: nn.Module | None = None) -> Layers:
    generator = torch.Generator().manual_seed(1)
    found: list[nn.Module] = []
    for conv in convs:
        norm = nn.BatchNorm2d(conv.out_channels)
        with torch.no_grad():
            conv.weight.normal_(generator=generator)
            norm.weight.normal_(1, 0.5, generator=generator)
            norm.bias.normal_(0.5, 0.5, generator=generator)
        found += [conv, norm, activation or nn.ReLU6()]
    return Layers(*found)


def image(*shape: int) -> Tensor:
    x = torch.randn(shape, generator=torch.Generator().manual_seed(2))
    return x.to(memory_format=torch.channels_last).requires_grad_()


def check(module: Layers, x: Tensor) -> None:
    """Compare outputs, gradients and statistics with torch in double precision."""
    wide, x64 = copy.deepcopy(module).double(), x.detach().double().requires_grad_()
    expected, got = plain(wide, x64), module.links(x)
    assert got.shape == expected.shape
    assert torch.allclose(got.double(), expected, rtol=1e-4, atol=1e-4)
    grad = torch.randn(got.shape, generator=torch.Generator().manual_seed(3))
    ours = torch.autograd.grad(got, (x, *module.parameters()), grad)
    theirs = torch.autograd.grad(expected, (x64, *wide.parameters()), grad.double())
    for a, b in zip(ours, theirs, strict=True):
        assert a.shape == b.shape
        assert (a.double() - b).norm() <= 1e-3 * b.norm() + 1e-3
    for name, value in wide.state_dict().items():
        if "running" in name or "tracked" in name:
            assert torch.allclose(
                module.state_dict()[name].double(), value.double(), rtol=1e-4, atol=1e-5
            ), name


def plain(module: Layers, x: Tensor) -> Tensor:
    """Run the same layers by torch."""
    for layer in module:
        if isinstance(layer, nn.Conv2d):
            x = nn.functional.conv2d(
                x,
                layer.weight,
                stride=layer.stride,
                padding=layer.padding,
                dilation=layer.dilation,
                groups=layer.groups,
            )
        else:
            x = layer(x)
    return x


@pytest.mark.parametrize("activation", ACTIVATIONS, ids=lambda module: type(module).__name__)
def test_a_chain_has_the_outputs_and_gradients_of_its_layers(activation: nn.Module) -> None:
    for width, side in itertools.product((8, 24, 130), (2, 5)):
        by_channel = depthwise(width, (3, 3), (1, 1))
        module = layers(pointwise(6, width), by_channel, pointwise(width, 5), activation=activation)
        check(module, image(3, 6, side, side))


@pytest.mark.parametrize("kernel", KERNELS)
def test_depthwise_layers_of_every_shape(kernel: tuple[int, int]) -> None:
    """As the first link, whose input has no terms, and as a later one."""
    for side, stride in itertools.product(SIDES, STRIDES):
        by_channel = depthwise(8, kernel, stride)
        check(layers(by_channel), image(3, 8, *side))
        check(layers(pointwise(8, 8), copy.deepcopy(by_channel)), image(3, 8, *side))


@pytest.mark.parametrize(("c_in", "c_out"), [(1, 1), (3, 200), (300, 7), (320, 300)])
def test_pointwise_layers_of_every_width(c_in: int, c_out: int) -> None:
    """With more pixels than a block, and a partial last block."""
    for pixels in (2, 331):
        module = layers(pointwise(c_in, c_out), pointwise(c_out, 4))
        check(module, image(2, c_in, pixels, 1))


@pytest.mark.parametrize("activation", ACTIVATIONS, ids=lambda module: type(module).__name__)
def test_a_chain_starts_after_a_convolution_by_torch(activation: nn.Module) -> None:
    """Also alone, with more pixels than a block, and with channels that do not fill a row."""
    for side, width in ((5, 6), (2, 250), (90, 16)):
        start = nn.Conv2d(3, width, 3, 2, 1, bias=False)
        x = image(3, 3, side, side)
        check(layers(copy.deepcopy(start), activation=activation), x)
        check(layers(copy.deepcopy(start), pointwise(width, 5), activation=activation), x)
        by_channel = depthwise(width, (3, 3), (1, 1))
        check(layers(start, by_channel, pointwise(width, 5), activation=activation), x)


def test_chains_span_blocks() -> None:
    """MobileNetV2 has one chain up to its first shortcut, and one after its last."""
    network = accelerated(build(load_reference("mobilenet_v2"), num_classes=5)).train()
    steps = all_names(network(image(2, 3, 32, 32)))
    assert steps.count("_Chain") == 16, "17 blocks; the first two are one, and the ends of both"
    assert "_NormalizeAndClip" not in steps


def test_a_variance_far_below_the_squared_mean_is_accurate() -> None:
    module = layers(pointwise(4, 4), activation=nn.Identity())
    with torch.no_grad():
        module.get_parameter("0.weight").copy_(torch.eye(4)[:, :, None, None])
    x = (1000 + 0.01 * torch.randn(64, 4, 8, 8)).requires_grad_()
    expected = plain(copy.deepcopy(module).double(), x.double())
    assert torch.allclose(module.links(x).double(), expected, atol=0.03)


def test_nan_is_propagated() -> None:
    x = image(4, 8, 3, 3).detach().clone()
    x[0, 3, 0, 0] = math.nan
    module = layers(depthwise(8, (3, 3), (1, 1)), pointwise(8, 4))
    assert module.links(x.requires_grad_()).isnan().any()


def test_both_memory_formats_give_the_same_result() -> None:
    module = layers(pointwise(6, 8), depthwise(8, (3, 3), (2, 2)))
    last = copy.deepcopy(module).links(image(4, 6, 5, 5))
    assert torch.equal(module.links(image(4, 6, 5, 5).detach().contiguous()), last)


def test_unsupported_layers_and_inputs_do_not_join_a_chain() -> None:
    linked = partial(link, first=False)
    conv, norm = pointwise(4, 4), nn.BatchNorm2d(4)
    assert linked(conv, norm, nn.ReLU6()) is not None
    assert linked(conv, norm, nn.Hardswish()) is None
    assert linked(conv, nn.Identity(), nn.ReLU6()) is None
    assert linked(conv, copy.deepcopy(norm).eval(), nn.ReLU6()) is None
    assert linked(nn.Conv2d(4, 4, 3, bias=False), norm, nn.ReLU6()) is None
    assert link(nn.Conv2d(4, 4, 3, bias=False), norm, nn.ReLU6(), first=True) is not None
    assert link(nn.Conv2d(4, 4, 3, bias=False), norm, nn.Hardswish(), first=True) is None
    assert linked(conv, nn.BatchNorm2d(4, momentum=None), nn.ReLU6()) is None
    assert linked(conv, nn.BatchNorm2d(4, affine=False), nn.ReLU6()) is None
    assert linked(conv, nn.BatchNorm2d(4, track_running_stats=False), nn.ReLU6()) is None
    with torch.device("meta"):
        assert linked(pointwise(4, WIDEST), norm, nn.ReLU6()) is not None
        assert linked(pointwise(4, WIDEST + 1), norm, nn.ReLU6()) is None
    assert fits(image(2, 4, 1, 1))
    assert not fits(image(1, 4, 1, 1))
    assert not fits(image(2, 4, 1, 1).double())
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert not fits(image(2, 4, 1, 1))
    torch.set_num_threads(2)
    assert not fits(image(2, 4, 1, 1))


def test_saved_maps_are_freed_after_backward() -> None:
    """A training loop keeps the loss, and so the graph, until the next step."""
    module = layers(pointwise(6, 8), depthwise(8, (3, 3), (1, 1)))
    y = module.links(image(4, 6, 5, 5))
    y.sum().backward()  # type: ignore[no-untyped-call]
    with pytest.raises(RuntimeError, match="freed"):
        y.sum().backward()  # type: ignore[no-untyped-call]


@pytest.mark.parametrize(
    "kind", [FusedConvolution, nn.Conv2d, nn.BatchNorm2d, nn.ReLU6], ids=lambda kind: kind.__name__
)
def test_hooks_of_every_layer_are_called(kind: type[nn.Module]) -> None:
    network = build(load_reference("mobilenet_v2").replace(alpha=0.25), num_classes=5).train()
    accelerated(network)
    listened = [module for module in network.modules() if isinstance(module, kind)]
    heard: list[nn.Module] = []
    for module in listened:
        module.register_forward_hook(lambda module, _inputs, _output: heard.append(module))
    network(image(2, 3, 32, 32))
    assert len(heard) == len(listened) > 0


@pytest.mark.parametrize("reference", ["mobilenet_v1", "mobilenet_v2", "mobilenet_v3_small"])
def test_gradients_of_a_network_are_those_in_double_precision(reference: str) -> None:
    """Double precision has no kernels."""
    network = build(load_reference(reference).replace(alpha=0.25), num_classes=5, seed=1).train()
    accelerated(network)
    wide, x = copy.deepcopy(network).double(), image(8, 3, 64, 64).detach()
    logits, expected = network(x), wide(x.double())
    assert "_Chain" in names(logits)
    assert "_Chain" not in names(expected)
    assert torch.allclose(logits.double(), expected, atol=1e-4)
    logits.square().sum().backward()
    expected.square().sum().backward()
    ours, theirs = (
        torch.cat([p.grad.flatten().double() for p in each.parameters() if p.grad is not None])
        for each in (network, wide)
    )
    assert (ours - theirs).norm() <= 1e-2 * theirs.norm()


def names(y: Tensor) -> set[str]:
    """Return the kinds of autograd nodes of a tensor."""
    return set(all_names(y))


def all_names(y: Tensor) -> list[str]:
    """Return the kind of each autograd node of a tensor."""
    found, waiting = set(), [y.grad_fn]
    while waiting:
        node = waiting.pop()
        if node is not None and node not in found:
            found.add(node)
            waiting += [before for before, _ in node.next_functions]
    return [type(node).__name__.removesuffix("Backward") for node in found]
