"""Where the accuracies of a run come from: the space's proxy, or a table."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from hashlib import blake2b
from pathlib import Path
from typing import TYPE_CHECKING

from mbsearch.config.settings import AUTO, EMBEDDED, SCRATCH, Finals, Promotion
from mbsearch.config.specification import SearchSpecification
from mbsearch.cost.coverage import resolutions
from mbsearch.execution.local import usable_cores
from mbsearch.execution.table import TableEvaluator, read_table, table_classes
from mbsearch.search.driver import Images

if TYPE_CHECKING:
    from mbsearch.data.parallel import OnImages
    from mbsearch.data.sources import ImageSource
    from mbsearch.execution.protocol import Evaluator
    from mbsearch.training.pretrained import Pretrained

Say = Callable[[str], None]
"""Called with a line about something that takes its time."""

OnPreparation = Callable[[str, int, int, float], None]
"""Called after every step before a search: what is trained, steps done, target, loss (nats)."""


def say_nothing(_line: str) -> None:
    """Print nothing."""


def ignore_preparation(_noun: str, _done: int, _steps: int, _loss: float) -> None:
    """Show nothing of the trainings before a search."""


@dataclass(frozen=True, slots=True)
class Scoring:
    """Where accuracies come from: `data` names it, `key` identifies its content.

    `space` is the space that is scored, and `prepare` makes a worker process ready. `train_shared`
    trains the weights that all trials start from, for a space with its budgets; False where the
    deadline came first. `weights` identify the donor that networks inherit from as `pretrained` has
    it, None without one. Workers of this machine are spared the compilation of their kernels by
    `compile` and the import of their modules by `imports`, and `jobs` is how many of them it feeds.
    `images` counts those that trainings see, and finals train at `final_scale` of a network's
    resolution. `chance` is the share of the largest class, and `facts` describe the images in lines
    of text. `photo_side` is the shorter side of most photos in pixels; None for the embedded
    images, which stand in for others. `prepare_images` puts the images of short trainings into the
    cache, and `skipped` names the damaged ones that were left out.
    """

    evaluator: Evaluator
    space: SearchSpecification
    data: str
    key: str
    prepare: Callable[[], None] | None = None
    train_shared: Callable[[SearchSpecification, float, OnPreparation, Say], bool] | None = None
    compile: Callable[[Say], None] | None = None
    jobs: Callable[[], int] = usable_cores
    imports: Callable[[], Sequence[str]] = tuple
    images: Images = field(default_factory=Images)
    final_scale: float = 1.0
    chance: float = 0.0
    facts: tuple[str, ...] = ()
    photo_side: int | None = None
    prepare_images: Callable[[OnImages | None], None] | None = None
    skipped: tuple[str, ...] = ()
    weights: str | None = None
    pretrained: Pretrained | None = None


def by_training(
    space: SearchSpecification,
    data: str,
    seed: int,
    device: str | None,
    folder: Path,
    *,
    skip_damaged: bool = False,
    on_images: OnImages | None = None,
) -> Scoring:
    """Score by the space's proxy; `folder` is where a supernet's weights belong.

    Args:
        skip_damaged: leave out image files that cannot be read, instead of refusing them.
        on_images: called while images are checked; None writes lines into the log.

    Raises:
        DataError: the images cannot be used.
        EvaluationError: this machine has no such device.
    """
    from mbsearch.data.sources import load_source
    from mbsearch.training.devices import (
        choose_device,
        default_jobs,
        prepare_worker,
        worker_imports,
    )
    from mbsearch.training.preparations import Preparations
    from mbsearch.training.proxy import ProxyTraining
    from mbsearch.training.warm_up import compile_kernels

    source = load_source(data, seed=seed, on_images=on_images)
    if not skip_damaged:
        source.require_undamaged()
    prepared = Preparations.planned(space, source, seed, device, folder)
    space = prepared.space
    settings, pretrained = space.settings, prepared.pretrained
    return Scoring(
        ProxyTraining(
            settings.proxy,
            data,
            seed,
            device,
            prepared.supernet,
            settings.promotion.longer,
            settings.retrain,
            settings.finals,
            settings.final_scale(data),
            pretrained,
            settings.teacher,
        ),
        space.with_classes(source.num_classes),
        source.name,
        source.content_key,
        prepare_worker,
        prepared.run if prepared.needed else None,
        lambda say: compile_kernels(choose_device(device), say),
        lambda: default_jobs(choose_device(device)),  # not asked for where a cluster trains
        lambda: worker_imports(choose_device(device)),
        Images(len(source.members["train"].rows), len(source.members["validation"].rows)),
        settings.final_scale(data),
        source.chance,
        (*source.facts(), *prepared.facts),
        source.photo_side() if data != EMBEDDED else None,
        partial(_prepare_images, source, space),
        tuple(f"{file.path}\t{file.fault}" for file in source.damaged),
        prepared.key,
        pretrained,
    )


def _prepare_images(
    source: ImageSource, space: SearchSpecification, on_images: OnImages | None
) -> None:
    """Put what short trainings see of the images into the cache, at every resolution."""
    source.statistics(on_images)
    proxy = space.settings.proxy
    sides = [proxy.pixels(resolution) for resolution in resolutions(space)]
    source.prepare("train", sides, proxy.train_images, on_images)
    source.prepare("validation", sides, proxy.validation_images, on_images)


def default_space(data: str | None, weights: str | None, on_images: OnImages | None = None) -> str:
    """Name of the shipped space that suits images: ``photos`` where networks inherit weights.

    Args:
        data: a folder or a name; None means the embedded images.
        weights: as `Settings.weights`; None means ``auto``.
        on_images: called while images are checked; None writes lines into the log.

    Raises:
        DataError: the images or the donor cannot be used.
    """
    if weights == SCRATCH or (data is None and weights in (None, AUTO)):
        return "v2"
    from mbsearch.data.sources import load_source
    from mbsearch.training.preparations import chosen_donor

    donor = chosen_donor(
        weights or AUTO, load_source(data or EMBEDDED, seed=0, on_images=on_images)
    )
    return "v2" if donor is None else "photos"


def by_table(space: SearchSpecification, table: Path) -> Scoring:
    """Score by a table of known accuracies; there are no baselines and no longer trainings then.

    Raises:
        DataError: the table cannot be used.
    """
    if (classes := table_classes(table)) is not None:
        space = space.with_classes(classes)
    read_table(table, space)  # a mistake in it is better said before the workers start
    key = blake2b(table.read_bytes(), digest_size=8).hexdigest()
    bare = space.with_settings(
        {
            "baselines": (),
            "references": "none",
            "weights": SCRATCH,
            "promotion": Promotion(share=0),
            "finals": Finals(minutes=0),
            "proxy": space.settings.proxy.model_copy(update={"growth": 0.0}),  # it is the last word
        }
    )
    return Scoring(TableEvaluator(table.resolve(), bare), bare, table.name, key)
