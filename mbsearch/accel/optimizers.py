"""Optimizers for the many small tensors of a network on a CPU."""

from __future__ import annotations

from collections.abc import Iterable
from inspect import unwrap
from typing import Any

import torch
from torch import Tensor


class _WithoutCompiler(torch.optim.Optimizer):
    """Methods of torch's optimizers that do not import torch's compiler on their first call.

    The import takes two fifths of the start of a worker.
    """

    add_param_group = unwrap(torch.optim.Optimizer.add_param_group)
    zero_grad = unwrap(torch.optim.Optimizer.zero_grad)
    state_dict = unwrap(torch.optim.Optimizer.state_dict)
    load_state_dict = unwrap(torch.optim.Optimizer.load_state_dict)


class SGD(_WithoutCompiler, torch.optim.SGD):
    """Torch's SGD."""

    step = torch.no_grad()(unwrap(torch.optim.SGD.step))


class AdamW(_WithoutCompiler, torch.optim.AdamW):
    """AdamW for parameters that all have a gradient at every step, with torch's state format.

    Torch's AdamW counts the steps of each parameter and gathers all states in every step. On a
    network of 158 small tensors this takes two thirds of its time (docs/throughput.md).
    """

    def __init__(self, groups: Iterable[dict[str, Any]], rate: float) -> None:
        super().__init__(groups, lr=rate, fused=True)
        self._gathered: list[tuple[list[Tensor], list[Tensor], Tensor]] = []

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # type: ignore[override]
        """Update every parameter in place from its gradient."""
        if not self._gathered:
            self._gathered = [self._gather(group["params"]) for group in self.param_groups]
        for group, (means, squares, steps) in zip(self.param_groups, self._gathered, strict=True):
            steps += 1
            parameters = group["params"]
            beta1, beta2 = group["betas"]
            torch._fused_adamw_(
                parameters,
                [parameter.grad for parameter in parameters],
                means,
                squares,
                [],
                [steps] * len(parameters),
                lr=group["lr"],
                beta1=beta1,
                beta2=beta2,
                weight_decay=group["weight_decay"],
                eps=group["eps"],
                amsgrad=False,
                maximize=False,
            )

    def state_dict(self) -> dict[str, Any]:
        """Return the state in the format of torch's AdamW: one step count per parameter."""
        saved = super().state_dict()
        states = {
            key: {**each, "step": each["step"].clone()} for key, each in saved["state"].items()
        }
        return {**saved, "state": states}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Load the state of this class or of torch's AdamW, for the same parameters."""
        super().load_state_dict(state_dict)
        self._gathered = []

    def _gather(self, parameters: list[Tensor]) -> tuple[list[Tensor], list[Tensor], Tensor]:
        """Return the parameters' first moments, second moments and common step count.

        Missing moments are created as zeros. The step count replaces those of the parameters.
        """
        for parameter in parameters:
            if not self.state[parameter]:
                zeros = [torch.zeros_like(parameter) for _ in range(2)]
                self.state[parameter] = {
                    "step": torch.zeros(()),
                    "exp_avg": zeros[0],
                    "exp_avg_sq": zeros[1],
                }
        states = [self.state[parameter] for parameter in parameters]
        steps = torch.zeros(())
        for state in states:
            steps.copy_(state["step"])
            state["step"] = steps
        return [s["exp_avg"] for s in states], [s["exp_avg_sq"] for s in states], steps
