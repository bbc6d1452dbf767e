"""Choose a study's evaluator: proxy trainings, a table of accuracies, or the user's own."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from hashlib import blake2b
from pathlib import Path
from typing import TYPE_CHECKING

from mbsearch.config.finals_settings import Finals
from mbsearch.config.promotion_settings import Promotion
from mbsearch.config.proxy_settings import EMBEDDED, Proxy
from mbsearch.config.settings import AUTO, SCRATCH
from mbsearch.config.specification import SearchSpecification
from mbsearch.errors import DataError
from mbsearch.execution.capacity import usable_cores
from mbsearch.execution.main_module import needs_main
from mbsearch.execution.table import TableEvaluator, read_table, table_classes
from mbsearch.progress import OnProgress, ignore_progress
from mbsearch.search.driver import Images
from mbsearch.space.image_format import COLOURS
from mbsearch.study.images_record import ImagesRecord, KnownImages

if TYPE_CHECKING:
    from mbsearch.data.sources import ImageSource
    from mbsearch.execution.protocol import Evaluator
    from mbsearch.training.pretrained import Pretrained


@dataclass(frozen=True, slots=True)
class Scoring:
    """How a study's networks are scored: the evaluator, its images and its preparation.

    Args:
        evaluator: scores one network.
        space: the space with the settings that suit the evaluator.
        data: name of the images or of the table, as it was given.
        place: absolute path of the images' folder; None without one.
        key: identifies the content of `data`.
        prepare: initializes a worker process.
        train_shared: trains the weights that all trials start from, until a deadline on
            time.monotonic's clock; returns False if the deadline came first.
        compile: compiles kernels on this machine before the workers start.
        jobs: returns the default number of workers.
        imports: returns the modules that workers import before their first task.
        images: number of images in the splits.
        final_scale: image size of finals, as a share of a network's resolution.
        chance: score of always predicting the largest class.
        facts: lines of text that describe the images and the pretrained weights.
        photo_side: median of the photos' shorter sides in pixels; None for the embedded images.
        prepare_images: writes the images of short trainings into the cache.
        record_images: returns what the study records about its images.
        skipped: damaged image files that were left out, with the reason.
        weights: identifies the pretrained weights; None from scratch.
        pretrained: the pretrained weights that networks inherit; None from scratch.
    """

    evaluator: Evaluator
    space: SearchSpecification
    data: str
    key: str
    place: str | None = None
    prepare: Callable[[], None] | None = None
    train_shared: Callable[[SearchSpecification, float, OnProgress], bool] | None = None
    compile: Callable[[], None] | None = None
    jobs: Callable[[], int] = usable_cores
    imports: Callable[[], Sequence[str]] = tuple
    images: Images = field(default_factory=Images)
    final_scale: float = 1.0
    chance: float = 0.0
    facts: tuple[str, ...] = ()
    photo_side: int | None = None
    prepare_images: Callable[[OnProgress], None] | None = None
    record_images: Callable[[OnProgress], ImagesRecord] | None = None
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
    known: KnownImages | None = None,
    on_progress: OnProgress = ignore_progress,
) -> Scoring:
    """Return the scoring for proxy trainings.

    Args:
        space: specification as it was loaded.
        data: an image folder, a table of labels or the name of a data set.
        seed: seed of the split and the trainings.
        device: ``cpu``, ``cuda``, ``mps``; None selects the best one available.
        folder: folder of the study, for the weights of a teacher and a supernet.
        skip_damaged: leave out image files that cannot be read; by default they are an error.
        known: images of the study, if it exists.
        on_progress: receives events while images are checked.

    Raises:
        DataError: the images cannot be used.
        EvaluationError: this machine has no such device.
    """
    from mbsearch.data.sources import load_source
    from mbsearch.export.quantization import int8_predictions
    from mbsearch.training.devices import (
        choose_device,
        default_jobs,
        prepare_worker,
        worker_imports,
    )
    from mbsearch.training.loop import compile_ahead
    from mbsearch.training.preparations import Preparations
    from mbsearch.training.proxy import ProxyTraining

    min_images = space.settings.proxy.min_images
    source = load_source(data, seed=seed, min_images=min_images, on_progress=on_progress)
    source = source.known_as(known)
    _require_trainable(space)
    if not skip_damaged:
        source.require_undamaged()
    prepared = Preparations.planned(space, source, seed, device, folder)
    _require_enough(prepared.space.settings.proxy, source)
    space = prepared.space
    settings, pretrained = space.settings, prepared.pretrained
    training = ProxyTraining(
        settings.proxy,
        source.place,
        split_seed=seed,
        device=device,
        shared=prepared.supernet,
        longer=settings.promotion.longer,
        retrain=settings.retrain,
        finals=settings.finals,
        final_scale=settings.final_scale(data),
        pretrained=pretrained,
        teacher=settings.teacher,
        score=settings.score,
        int8=int8_predictions,
    )
    return Scoring(
        evaluator=training,
        space=space.with_classes(source.num_classes),
        data=source.name,
        key=source.study_key,
        place=source.place,
        prepare=prepare_worker,
        train_shared=prepared.run if prepared.needed else None,
        compile=lambda: compile_ahead(choose_device(device)),
        jobs=lambda: default_jobs(choose_device(device)),  # lazy: a cluster does not need it
        imports=lambda: worker_imports(choose_device(device)),
        images=Images(len(source.members["train"].rows), len(source.members["validation"].rows)),
        final_scale=settings.final_scale(data),
        chance=settings.score.of_largest_class(source.chance, source.num_classes),
        facts=(*source.facts(), *_input_facts(space, source), *prepared.facts),
        photo_side=source.photo_side() if data != EMBEDDED else None,
        prepare_images=partial(_prepare_images, source, space),
        record_images=partial(source.record, channels=space.input.channels),
        skipped=tuple(f"{file.path}\t{file.fault}" for file in source.damaged),
        weights=prepared.key,
        pretrained=pretrained,
    )


def _require_trainable(space: SearchSpecification) -> None:
    """Raise SpecError if the networks of a space take neither grey nor colour images."""
    if space.input.channels not in (1, COLOURS):
        raise space.error(
            ("input",),
            "channels: expected 1 (grey images) or 3 (colour) to train on images, got "
            f"{space.input.channels}",
        )


def _input_facts(space: SearchSpecification, source: ImageSource) -> Iterator[str]:
    """Yield lines of text about changes of the images: to grey, or to another aspect ratio."""
    if space.input.channels == 1 and source.coloured:
        yield "input: colour images become grey (input.channels: 1)"
    fits = dict.fromkeys(each.fit for each in space.image_formats)
    if any(fit != "stretch" for fit in fits):
        yield f"input: images of another aspect ratio are fitted by: {', '.join(fits)} (input.fit)"


def _require_enough(proxy: Proxy, source: ImageSource) -> None:
    """Raise DataError if fewer images are requested than there are classes."""
    limits = {"train": proxy.train_images, "validation": proxy.validation_images}
    for kind, limit in limits.items():
        if limit is not None and limit < source.num_classes:
            raise DataError(
                f"{source.name}: proxy.{kind}_images: expected at least {source.num_classes:,} "
                f"(one image of each class), or null for all, got {limit:,}"
            )


def _prepare_images(
    source: ImageSource, space: SearchSpecification, on_progress: OnProgress
) -> None:
    """Write the images for short trainings to the cache, at all resolutions of the space."""
    proxy = space.settings.proxy
    formats = [each.scaled(proxy.resolution_scale) for each in space.image_formats]
    source.prepare("train", formats, proxy.train_images, on_progress)
    source.prepare("validation", formats, proxy.validation_images, on_progress)


def default_space(
    data: str | None,
    weights: str | None,
    min_images: int = 1,
    on_progress: OnProgress = ignore_progress,
) -> str:
    """Return the default space: ``photos`` if networks inherit weights, otherwise ``v2``.

    Args:
        data: an image folder, a table of labels or the name of a data set; None for the embedded
            images.
        weights: as `Settings.weights`; None for ``auto``.
        min_images: as `Proxy.min_images`.
        on_progress: receives events while images are checked.

    Raises:
        DataError: the images or the donor cannot be used.
    """
    if weights == SCRATCH or (data is None and weights in (None, AUTO)):
        return "v2"
    from mbsearch.data.sources import load_source
    from mbsearch.training.preparations import chosen_donor

    source = load_source(data or EMBEDDED, seed=0, min_images=min_images, on_progress=on_progress)
    donor = chosen_donor(weights or AUTO, source)
    return "v2" if donor is None else "photos"


def by_table(space: SearchSpecification, table: Path) -> Scoring:
    """Return the scoring that looks accuracies up in a table, without any training.

    Raises:
        DataError: the table cannot be used.
    """
    if (classes := table_classes(table)) is not None:
        space = space.with_classes(classes)
    read_table(table, space)  # report an invalid table before the workers start
    key = blake2b(table.read_bytes(), digest_size=8).hexdigest()
    bare = _without_trainings(space).with_settings({"baselines": (), "references": "none"})
    return Scoring(TableEvaluator(table.resolve(), bare), bare, table.name, key)


def by_evaluator(space: SearchSpecification, evaluator: Evaluator) -> Scoring:
    """Return the scoring by a user's evaluator; the study has no promotions or finals.

    The study is bound to the name of the evaluator's class.

    Raises:
        EvaluationError: workers cannot import the evaluator.
    """
    needs_main(evaluator)  # report one that workers cannot import, before there is a study
    name = f"{type(evaluator).__module__}.{type(evaluator).__qualname__}"
    bare = _without_trainings(space)
    proxy = bare.settings.proxy
    # A pilot trains references to choose the number of epochs. Here it has nothing to train.
    given = proxy.model_copy(update={"epochs": proxy.epochs})
    return Scoring(evaluator, bare.with_settings({"proxy": given}), name, name)


def _without_trainings(space: SearchSpecification) -> SearchSpecification:
    """Return the specification with inherited weights, promotions and finals turned off."""
    return space.with_settings(
        {
            "weights": SCRATCH,
            "promotion": Promotion(share=0),
            "finals": Finals(minutes=0),
            "proxy": space.settings.proxy.model_copy(update={"growth": 0.0}),
        }
    )
