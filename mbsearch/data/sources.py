"""Load data sets by name or folder, with fixed splits.

A search uses training and validation images only; retraining is evaluated on test images. A missing
split is a stratified part of the training images, drawn with the seed: 15 % for the test split; for
the validation split 20 % if the test split is given, else 15 %.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from importlib.resources import files
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
import torch
from torch import Tensor

from mbsearch.config.proxy_settings import EMBEDDED, EMBEDDED_TITLE
from mbsearch.data.batches import Split
from mbsearch.data.cache import Array, cached_array, cached_arrays, load_array
from mbsearch.data.folder import list_folder
from mbsearch.data.image_files import DamagedFile, ImageFiles, damage_message, read_files
from mbsearch.data.image_groups import assign_groups
from mbsearch.data.label_table import SUFFIXES, list_table
from mbsearch.data.labelled_files import LabelledFiles
from mbsearch.data.parallel import reported
from mbsearch.data.parquet_images import SUFFIX, is_parquet, list_parquet
from mbsearch.data.rare_classes import MIN_IMAGES, ChosenClasses, choose_classes
from mbsearch.data.readers import (
    PackedPool,
    Pool,
    channels,
    resized,
    shorter_sides,
)
from mbsearch.data.splits import Rows, stratified
from mbsearch.errors import DataError, did_you_mean
from mbsearch.progress import OnProgress
from mbsearch.space.image_format import ImageFormat
from mbsearch.study.identity import IDENTITY
from mbsearch.study.images_record import ImagesRecord, KnownImages

SplitName = Literal["train", "validation", "test"]

_EMBEDDED_FILE = Path(str(files("mbsearch.data"))) / "embedded" / "fashion_mnist.xz"
_EMBEDDED_SHA256 = "985c22ebc6127bc4401575ef7b795f6c0708bbc3578760e15cdc0346adccaa31"
# Identity of the training images: the SHA-256 of the first version of the file, which had the same
# training images and fewer test images. Studies store this key, so it changes only with them.
_EMBEDDED_KEY = "45cd70f53a423b4286e9c1c16a56a6bfd23b416d1bf9f9a3f02d5639a4237cea"
_EMBEDDED_PER_CLASS = 1000  # of the training and of the test images
_EMBEDDED_CLASSES: tuple[str, ...] = (
    "T-shirt/top",
    "Trouser",
    "Pullover",
    "Dress",
    "Coat",
    "Sandal",
    "Shirt",
    "Sneaker",
    "Bag",
    "Ankle boot",
)

_VALIDATION_WITH_TEST = 0.20
_SHARE_OF_TRAIN = 0.15
_LOOKED_AT = 100  # images
_STATISTICS_IMAGES = 4000
_STATISTICS_PIXELS = 64
_CHANNELS = (1, 3)
_BYTES = ("utf-8", "surrogateescape")  # of names
_CACHE_VERSION = "1"  # part of every key: increase it when the same inputs give other pixels


@dataclass(frozen=True, slots=True)
class Members:
    """The rows of a pool that belong to a split, and the class of each row."""

    pool: Pool
    rows: Rows
    labels: Rows

    def part(self, positions: Rows) -> Members:
        """Return the members at these positions."""
        return Members(self.pool, self.rows[positions], self.labels[positions])


@dataclass(frozen=True, slots=True)
class ImageSource:
    """A data set with fixed splits, whose images are read on demand.

    `place` is the absolute path of a folder, else the name. `content_key` is a hash of the images
    (for folders: of the files' names, sizes and contents), equal for equal data; the embedded set's
    key identifies its training images. `study_key` is the key by which a study knows the images.
    `flippable` says that a mirrored image is still one of its class. `notes` say what was left out
    and changed. `damaged` are files that cannot be read; no split holds them. `min_images` is the
    least number of training images of a class; `rare` has the number of each class left out.
    """

    name: str
    class_names: tuple[str, ...]
    content_key: str
    flippable: bool
    seed: int
    members: Mapping[SplitName, Members] = field(repr=False, compare=False)
    place: str
    study_key: str
    former_key: str | None = None
    notes: tuple[str, ...] = ()
    damaged: tuple[DamagedFile, ...] = ()
    min_images: int = 1
    rare: Mapping[str, int] = field(default_factory=dict)

    def known_as(self, known: KnownImages | None) -> ImageSource:
        """Return the source with the key that the study recorded for these images.

        It is unchanged if the study has other images. Studies of earlier versions know folders by
        the files' times.
        """
        if known is None:
            return self
        same = known.content == self.content_key or known.key in (self.content_key, self.former_key)
        return replace(self, study_key=known.key) if same else self

    def record(self, on_progress: OnProgress | None = None, channels: int = 3) -> ImagesRecord:
        """Return what a study of networks that take `channels` records about the images.

        Raises:
            DataError: an image is unreadable, or the cache is not writable.
        """
        mean, std = self.statistics(on_progress, channels).tolist()
        return ImagesRecord(
            self.content_key,
            self.class_names,
            tuple(mean),
            tuple(std),
            self.min_images,
            dict(self.rare),
            {kind: self._largest_class(kind) for kind in get_args(SplitName)},
            bool(self.members["train"].pool.reading.ranges),
        )

    @property
    def num_classes(self) -> int:
        """Number of classes."""
        return len(self.class_names)

    @property
    def chance(self) -> float:
        """Accuracy of always predicting the most frequent class of the training images."""
        return self._largest_class("train")

    def _largest_class(self, kind: SplitName) -> float:
        counts = np.bincount(self.members[kind].labels, minlength=self.num_classes)
        return float(counts.max() / counts.sum())

    def photo_side(self) -> int:
        """Return the median of the photos' shorter sides in pixels, from up to 100 headers.

        Raises:
            DataError: an image cannot be read.
        """
        members = self.members["train"]
        step = max(1, len(members.rows) // _LOOKED_AT)
        return int(np.median(shorter_sides(members.pool, members.rows[::step])))

    def facts(self) -> tuple[str, ...]:
        """Return lines of text: classes, splits, images per class, chance and changes."""
        labels = {kind: self.members[kind].labels for kind in get_args(SplitName)}
        total = np.bincount(np.concatenate(list(labels.values())), minlength=self.num_classes)
        low, high = total.min(), total.max()
        sizes = f"{low:,}" if low == high else f"{low:,} to {high:,}"
        splits = ", ".join(f"{len(found):,} {kind}" for kind, found in labels.items())
        title = EMBEDDED_TITLE if self.name == EMBEDDED else self.name
        return (
            f"data: {title}, {self.num_classes} classes of {sizes} images; {splits}",
            f"chance: {self.chance:.3f} (the share of the largest class)",
            *self.notes,
            *self.damage,
        )

    @property
    def damage(self) -> tuple[str, ...]:
        """Lines of text about damaged files that were left out; empty without any."""
        if not self.damaged:
            return ()
        return (f"left out: {damage_message(self.name, self.damaged)}",)

    def require_undamaged(self) -> None:
        """Raise an error if there are damaged files.

        Raises:
            DataError: there are some; the message names them.
        """
        if self.damaged:
            them = "it" if len(self.damaged) == 1 else "them"
            raise DataError(
                f"{damage_message(self.name, self.damaged)}; --skip-damaged leaves {them} out"
            )

    def split(self, kind: SplitName, images: ImageFormat | int, limit: int | None = None) -> Split:
        """Return a split's images in a format, cached on disk.

        An integer is the side of square colour images. `limit` takes a stratified part of that
        many images, drawn with the seed. Mean and standard deviation are those of the training
        images at a fixed size, so that they are the same for every split, limit and resolution.

        Raises:
            DataError: an image is unreadable, the cache is not writable, `limit` is below the
                number of classes, or images do not have the channels of the format.
        """
        images = ImageFormat.of(images)
        members = self._limited(kind, limit)
        pixels = self._images(kind, members, images)
        mean, std = self.statistics(channels=images.channels).tolist()
        return Split(
            images=torch.from_numpy(pixels),
            labels=torch.from_numpy(members.labels),
            mean=tuple(mean),
            std=tuple(std),
            num_classes=self.num_classes,
            channels=images.channels,
        )

    def seen(self, images: ImageFormat | int) -> Split:
        """Return the training and validation images as one split, cached on disk.

        If one of the two is grey and the other is not, both are in colour.

        Raises:
            DataError: as `split`.
        """
        images = ImageFormat.of(images)
        parts = [self.split("train", images), self.split("validation", images)]
        depth = max(part.images.shape[1] for part in parts)
        members = np.concatenate([self.members[k].rows for k in ("train", "validation")])
        pixels = cached_array(
            f"seen-{images.size}px-{self._key('seen', members, images)}",
            (len(members), depth, images.size.height, images.size.width),
            np.uint8,
            (image.expand(depth, -1, -1).numpy() for part in parts for image in part.images),
        )
        labels = torch.cat([part.labels for part in parts])
        return replace(parts[0], images=torch.from_numpy(pixels), labels=labels)

    def positions(self, kind: SplitName, limit: int | None) -> Tensor | None:
        """Return the positions of the images that `limit` selects from a split; None for all.

        Raises:
            DataError: as `split`.
        """
        members = self.members[kind]
        if limit is None or limit >= len(members.rows):
            return None
        if limit < self.num_classes:
            raise DataError(
                f"{self.name}: expected a limit of at least one {kind} image for each of the "
                f"{self.num_classes} classes, got {limit}"
            )
        chosen, _ = stratified(members.labels, limit, self.seed)
        return torch.from_numpy(chosen)

    def _limited(self, kind: SplitName, limit: int | None) -> Members:
        members, chosen = self.members[kind], self.positions(kind, limit)
        return members if chosen is None else members.part(chosen.numpy())

    @property
    def coloured(self) -> bool:
        """Whether the training images have colours."""
        members = self._measured
        return channels(members.pool, members.rows) > 1

    def prepare(
        self,
        kind: SplitName,
        formats: Iterable[ImageFormat | int],
        limit: int | None = None,
        on_progress: OnProgress | None = None,
    ) -> None:
        """Write a split to the cache in several formats of equal channels, decoding images once.

        Raises:
            DataError: as `split`.
        """
        distinct = list(dict.fromkeys(map(ImageFormat.of, formats)))
        self._cached(kind, self._limited(kind, limit), distinct, on_progress)

    def _images(self, kind: SplitName, members: Members, images: ImageFormat) -> Array:
        name, size = self._name(kind, members, images), images.size
        for depth in self._depths(images.channels):
            found = load_array(name, (len(members.rows), depth, size.height, size.width), np.uint8)
            if found is not None:
                return found
        return self._cached(kind, members, [images], None)[name]

    def _depths(self, wanted: int) -> tuple[int, ...]:
        """Return the numbers of channels that stored images for networks of `wanted` can have.

        Grey images are stored with one channel for networks of three. Whether they are grey is
        known only from their headers, or from an existing cache file.
        """
        if wanted not in _CHANNELS:
            raise DataError(
                f"{self.name}: expected a network that takes 1 channel (grey images) or 3 (colour),"
                f" got one that takes {wanted}"
            )
        return _CHANNELS[:wanted]

    def _cached(
        self,
        kind: SplitName,
        members: Members,
        formats: Sequence[ImageFormat],
        on_progress: OnProgress | None,
    ) -> dict[str, Array]:
        """Return a split's arrays by name, one for each format, and create missing ones."""
        depth, count = self._stored_channels(members, formats[0].channels), len(members.rows)
        by_name = {self._name(kind, members, each): each for each in formats}
        shapes = {
            name: (count, depth, each.size.height, each.size.width)
            for name, each in by_name.items()
        }

        def make(missing: list[str]) -> Iterator[tuple[Array, ...]]:
            wanted = [by_name[name] for name in missing]
            rows = resized(members.pool, members.rows, wanted, depth)
            return reported(rows, f"preparing {kind} images", count, on_progress)

        return cached_arrays(shapes, np.uint8, make)

    def _stored_channels(self, members: Members, wanted: int) -> int:
        """Return the channels of images stored for networks of `wanted` channels."""
        depths = self._depths(wanted)
        return depths[0] if len(depths) == 1 else channels(members.pool, members.rows)

    def _name(self, kind: SplitName, members: Members, images: ImageFormat) -> str:
        return f"{kind}-{images.size}px-{self._key(kind, members.rows, images)}"

    def statistics(self, on_progress: OnProgress | None = None, channels: int = 3) -> Array:
        """Return mean and standard deviation (2, C) of training images on [0, 1].

        C is 1 for grey images, and for networks of one channel.
        """
        members = self._measured
        images = replace(ImageFormat.of(_STATISTICS_PIXELS), channels=channels)
        name = f"statistics-{self._key('train', members.rows, images)}"
        for depth in self._depths(channels):
            found = load_array(name, (2, depth), np.float64)
            if found is not None:
                return found
        depth = self._stored_channels(members, channels)
        counts = np.zeros((depth, 256), np.int64)  # of each byte value: exact for any number
        rows = resized(members.pool, members.rows, (images,), depth)
        for (image,) in reported(rows, "measuring images", len(members.rows), on_progress):
            for channel, plane in enumerate(image):
                counts[channel] += np.bincount(plane.ravel(), minlength=256)
        level, weight = np.arange(256) / 255, counts / counts.sum(axis=1, keepdims=True)
        mean = weight @ level
        variance = (weight * (level - mean[:, None]) ** 2).sum(axis=1)
        std = np.sqrt(variance).clip(min=1 / 255)  # constant images must not divide by zero
        return cached_array(name, (2, depth), np.float64, (mean, std))

    @property
    def _measured(self) -> Members:
        """The training images from which the statistics are computed."""
        return self._limited("train", max(_STATISTICS_IMAGES, self.num_classes))

    def _key(self, kind: SplitName | Literal["seen"], rows: Rows, images: ImageFormat) -> str:
        head = f"{_CACHE_VERSION}\0{self.content_key}\0{kind}\0{images}\0"
        return hashlib.sha256(head.encode() + rows.tobytes()).hexdigest()[:24]


def load_source(
    name_or_path: str | Path,
    *,
    seed: int,
    min_images: int = 1,
    on_progress: OnProgress | None = None,
) -> ImageSource:
    """Return the data set with a name (``embedded`` or torchvision's), in a folder or a table.

    A folder holds ``train`` with ``val`` (or ``valid``, ``validation``) and/or ``test``, each with
    one folder per class; or only one folder per class. Upper case, ``training`` and ``testing`` are
    accepted too. If a word is both a name and a folder, the name is used; write ``./word`` for the
    folder. A table (CSV) names the files; a parquet file, or a
    folder of them, holds them. Every file is read once, and the report is cached. Files
    that cannot be read are left out; `ImageSource.require_undamaged` raises an error for them.

    Args:
        name_or_path: the name, the folder or the table.
        seed: of the splits.
        min_images: leave out classes with fewer training images, counted before missing splits are
            drawn from them; equal images count once.
        on_progress: receives events while files are read; None writes lines to the log.

    Raises:
        DataError: the name is unknown, the folder has another layout, a class has too few images to
            split, the embedded file is damaged, or a download failed.
    """
    name, is_name = str(name_or_path), isinstance(name_or_path, str)
    if is_name and name == EMBEDDED:
        found = _Found(_EMBEDDED_CLASSES, _EMBEDDED_KEY, _read_embedded())
        return found.source(name, name, seed, min_images)
    # Importing torchvision takes seconds, and the embedded set does not need it.
    from mbsearch.data.torchvision_sets import TORCHVISION_SETS, read_torchvision

    if is_name and name in TORCHVISION_SETS:
        classes, pools = read_torchvision(name)
        labels = b"".join(pool.labels.tobytes() for pool in pools.values())
        key = hashlib.sha256(name.encode() + labels).hexdigest()
        found = _Found(classes, key, pools, flippable=TORCHVISION_SETS[name].flippable)
        return found.source(name, name, seed, min_images)
    known = (EMBEDDED, *TORCHVISION_SETS)
    images = _read_images(name, is_name, known, on_progress, min_images)
    found = _Found(images.class_names, images.key, images.pools, images.originals, images.groups)
    source = found.source(name, str(Path(name).expanduser().absolute()), seed, min_images)
    return replace(
        source,
        former_key=None if source.rare else images.former_key,
        notes=(*images.notes, *source.notes),
        damaged=images.damaged,
    )


def load_known_source(
    known: KnownImages,
    data: str | None,
    *,
    seed: int,
    min_images: int = 1,
    on_progress: OnProgress | None = None,
) -> ImageSource:
    """Return the images of a study from `data`, or by default from where the search found them.

    The result has another `study_key` than the study if its images are others.

    Raises:
        DataError: as `load_source`; also if there is nothing where the search found them.
    """
    if data is None and os.sep in known.place and not Path(known.place).exists():
        what = "file" if Path(known.place).suffix.lower() in (*SUFFIXES, SUFFIX) else "folder"
        raise DataError(
            f"{known.place}: expected the study's images, got no such {what}; --data names where "
            "they are now"
        )
    source = load_source(
        data or known.place, seed=seed, min_images=min_images, on_progress=on_progress
    )
    return source.known_as(known)


def study_source(settings: Mapping[str, Any], data: str | None = None) -> ImageSource:
    """Return the images of a study with these stored settings.

    Args:
        settings: of the study.
        data: where the images are now; None for where the search found them.

    Raises:
        DataError: they cannot be read, or are not the study's.
    """
    known, record = KnownImages.of(settings), ImagesRecord.of(settings)
    if known is None:
        raise DataError("expected a study that records its images, got none")
    min_images = 1 if record is None else record.min_images
    seed = settings[IDENTITY]["seed"]
    source = load_known_source(known, data, seed=seed, min_images=min_images)
    if source.study_key != known.key:
        raise DataError(
            f"{source.place}: expected the images of the study, got others (names or contents "
            "differ); --data names where they are now"
        )
    return source


@dataclass(frozen=True, slots=True)
class _Found:
    """A data set as it was found: all classes, before missing splits are drawn."""

    class_names: tuple[str, ...]
    key: str
    pools: Mapping[str, Pool]
    originals: Rows | None = None
    groups: Rows | None = None
    flippable: bool = True

    def source(self, name: str, place: str, seed: int, min_images: int) -> ImageSource:
        """Return a source of the classes with at least `min_images` training images."""
        train = self.pools["train"].labels
        originals = np.arange(len(train)) if self.originals is None else self.originals
        chosen = choose_classes(name, self.class_names, train[np.unique(originals)], min_images)
        key = self.key
        if chosen.left_out:
            key = hashlib.sha256("\0".join((key, *chosen.left_out)).encode(*_BYTES)).hexdigest()
        return ImageSource(
            name,
            chosen.names,
            key,
            self.flippable,
            seed,
            _splits(name, chosen, self.pools, seed, originals, self.groups),
            place,
            key,
            notes=chosen.notes,
            min_images=min_images,
            rare=chosen.left_out,
        )


def _read_images(
    name: str,
    is_name: bool,
    known: Sequence[str],
    on_progress: OnProgress | None,
    min_images: int,
) -> ImageFiles:
    try:
        place = Path(name).expanduser()
        if is_name and Path(name).name == name and not place.exists():
            raise DataError(
                f"{name!r}: expected the name of a data set ({', '.join(known)}) or a folder "
                f"of images, got neither{did_you_mean(name.lower(), known)}"
            )
        return read_files(_listed(place), on_progress, min_images)
    except OSError as error:
        raise DataError(f"{error.filename or name}: cannot be read: {error.strerror}") from error
    except RuntimeError as error:  # a ~user that does not exist
        raise DataError(f"{name}: expected a folder of images, got {error}") from error


def _listed(place: Path) -> LabelledFiles:
    """Return the files that a table, a parquet file or a folder names."""
    if is_parquet(place):
        return list_parquet(place)
    is_table = place.suffix.lower() in SUFFIXES and not place.is_dir()
    return list_table(place) if is_table else list_folder(place)


def _read_embedded() -> dict[str, Pool]:
    try:
        packed = _EMBEDDED_FILE.read_bytes()
    except OSError as error:
        raise DataError(f"{_EMBEDDED_FILE}: cannot read the embedded data set ({error})") from error
    got = hashlib.sha256(packed).hexdigest()
    if got != _EMBEDDED_SHA256:
        raise DataError(
            f"{_EMBEDDED_FILE}: the embedded data set is damaged; expected SHA-256 "
            f"{_EMBEDDED_SHA256}, got {got}; install mbsearch again"
        )
    labels = np.arange(len(_EMBEDDED_CLASSES), dtype=np.int64).repeat(_EMBEDDED_PER_CLASS)
    return {
        "train": PackedPool(_EMBEDDED_FILE, 0, 28, labels),
        "test": PackedPool(_EMBEDDED_FILE, len(labels), 28, labels),
    }


def _splits(
    name: str,
    chosen: ChosenClasses,
    pools: Mapping[str, Pool],
    seed: int,
    originals: Rows,
    groups: Rows | None,
) -> dict[SplitName, Members]:
    """The three splits of the chosen classes; missing ones are taken from the training images.

    `originals` holds for each training image the row of the first one of equal content: images of
    equal content stay in one split, and so do those of one of the `groups`.
    """
    labels = {kind: chosen.numbers[pool.labels] for kind, pool in pools.items()}
    train = labels["train"]
    missing: dict[SplitName, float] = {}
    if "test" not in pools:
        missing["test"] = _SHARE_OF_TRAIN
    if "validation" not in pools:
        missing["validation"] = _VALIDATION_WITH_TEST if "test" in pools else _SHARE_OF_TRAIN
    counts = np.bincount(train[np.unique(originals[train >= 0])], minlength=len(chosen.names))
    if counts.min() <= len(missing):
        least = len(missing) + 1
        raise DataError(
            f"{name}: class {chosen.names[int(counts.argmin())]!r}: expected at least "
            f"{least} images to split, got {counts.min()}; {MIN_IMAGES}: {least} leaves such "
            "classes out"
        )
    if groups is None:
        drawn = _drawn_images(train, originals, missing, seed)
    else:
        drawn = _drawn_groups(name, chosen.names, train, groups, missing, seed)
    members = {
        kind: Members(pools[kind], found, labels[kind][found])
        for kind in get_args(SplitName)
        if kind in pools
        for found in [np.flatnonzero(labels[kind] >= 0)]
    }
    return members | {
        kind: Members(pools["train"], rows, train[rows]) for kind, rows in drawn.items()
    }


def _drawn_images(
    labels: Rows, originals: Rows, missing: Mapping[SplitName, float], seed: int
) -> dict[SplitName, Rows]:
    """Return the rows of the missing splits, drawn by class, and of the training images."""
    rows = np.unique(originals[labels >= 0])
    total, classes = len(rows), int(labels.max()) + 1
    found: dict[SplitName, Rows] = {}
    for left, (kind, share) in enumerate(missing.items(), start=1):
        keep = 1 + len(missing) - left  # for the training images and the splits still missing
        most = len(rows) - keep * classes
        count = min(max(round(share * total), classes), most)
        drawn, rest = stratified(labels[rows], count, seed, keep=keep)
        found[kind] = np.flatnonzero(np.isin(originals, rows[drawn]))
        rows = rows[rest]
    return found | {"train": np.flatnonzero(np.isin(originals, rows))}


def _drawn_groups(
    name: str,
    class_names: Sequence[str],
    labels: Rows,
    groups: Rows,
    missing: Mapping[SplitName, float],
    seed: int,
) -> dict[SplitName, Rows]:
    """Return the rows of the missing splits, of whole groups, and of the training images."""
    rows = np.flatnonzero(labels >= 0)
    kinds: list[SplitName] = ["train", *missing]
    shares = [1 - sum(missing.values()), *missing.values()]
    parts = assign_groups(labels[rows], groups[rows], shares, seed)
    if parts is None:
        in_groups = [len(np.unique(groups[labels == label])) for label in range(len(class_names))]
        fewest = int(np.argmin(in_groups))
        raise DataError(
            f"{name}: class {class_names[fewest]!r}: expected enough groups that "
            f"{', '.join(kinds[:-1])} and {kinds[-1]} images of it are of different ones, got "
            f"{in_groups[fewest]}"
        )
    return {kind: rows[parts == part] for part, kind in enumerate(kinds)}
