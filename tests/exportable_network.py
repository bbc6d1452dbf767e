"""A network for tests of the export."""

from __future__ import annotations

import torch
from torch import nn

from mbsearch.export.exportable import Exportable, Normalisation
from mbsearch.space.architecture import Architecture
from mbsearch.training.network import build


def exportable(
    architecture: Architecture, seed: int = 0, *, least_variance: float = 1.0
) -> Exportable:
    """Return a network whose batch normalizations have different statistics.

    No variance is below `least_variance` times the mean one of its layer. The last maps have one
    pixel here: a channel that hardly varies in eight images would be scaled up, and its rounding
    with it, until nothing agrees to 1e-5 with anything.
    """
    network = build(architecture, seed=seed)
    torch.manual_seed(seed)
    norms = [m for m in network.modules() if isinstance(m, nn.BatchNorm2d)]
    for norm in norms:
        nn.init.uniform_(norm.weight, 0.5, 1.5)
        nn.init.normal_(norm.bias, 0, 0.2)
        norm.momentum = 1.0
    with torch.no_grad():
        network(torch.randn(8, *architecture.image_format.shape))
        for norm in norms:
            assert norm.running_var is not None
            norm.running_var.clamp_(min=least_variance * float(norm.running_var.mean()))
    title = f"{architecture.name}: a network."
    channels = architecture.image_format.channels
    known = Normalisation((0.5, 0.4, 0.3)[:channels], (0.2, 0.3, 0.1)[:channels])
    return Exportable(architecture, network.eval(), title, known)
