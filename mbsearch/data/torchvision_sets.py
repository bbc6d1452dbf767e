"""Torchvision data sets by name, downloaded into the cache folder."""

from __future__ import annotations

import tarfile
import zipfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from http.client import HTTPException
from operator import attrgetter
from types import MappingProxyType
from typing import Any

import numpy as np
from filelock import FileLock
from torchvision import datasets

from mbsearch.data.cache import cache_dir
from mbsearch.data.readers import TorchvisionPool
from mbsearch.errors import DataError

Arguments = Mapping[str, str | bool]

_FLAG: Mapping[str, Arguments] = {"train": {"train": True}, "test": {"train": False}}
_TWO: Mapping[str, Arguments] = {"train": {"split": "train"}, "test": {"split": "test"}}
_THREE: Mapping[str, Arguments] = {**_TWO, "validation": {"split": "val"}}

# torchvision raises RuntimeError for a wrong checksum; the others are network or archive errors.
_FAILED = (OSError, RuntimeError, EOFError, HTTPException, tarfile.TarError, zipfile.BadZipFile)


@dataclass(frozen=True, slots=True)
class TorchvisionSet:
    """How to load a torchvision data set: class, official parts, attribute of labels."""

    dataset: Callable[..., Any]
    parts: Mapping[str, Arguments]
    labels: Callable[[Any], Sequence[int]]
    flippable: bool = True  # False if a mirrored image has another class or none


TORCHVISION_SETS: Mapping[str, TorchvisionSet] = MappingProxyType(
    {
        "cifar10": TorchvisionSet(datasets.CIFAR10, _FLAG, attrgetter("targets")),
        "cifar100": TorchvisionSet(datasets.CIFAR100, _FLAG, attrgetter("targets")),
        "fashion_mnist": TorchvisionSet(datasets.FashionMNIST, _FLAG, attrgetter("targets")),
        "mnist": TorchvisionSet(datasets.MNIST, _FLAG, attrgetter("targets"), flippable=False),
        "svhn": TorchvisionSet(datasets.SVHN, _TWO, attrgetter("labels"), flippable=False),
        "stl10": TorchvisionSet(datasets.STL10, _TWO, attrgetter("labels")),
        "flowers102": TorchvisionSet(datasets.Flowers102, _THREE, attrgetter("_labels")),
        "food101": TorchvisionSet(datasets.Food101, _TWO, attrgetter("_labels")),
        "oxford_iiit_pet": TorchvisionSet(
            datasets.OxfordIIITPet,
            {"train": {"split": "trainval"}, "test": {"split": "test"}},
            attrgetter("_labels"),
        ),
        "eurosat": TorchvisionSet(datasets.EuroSAT, {"train": {}}, attrgetter("targets")),
        "gtsrb": TorchvisionSet(
            datasets.GTSRB,
            _TWO,
            lambda dataset: [label for _, label in dataset._samples],
            flippable=False,
        ),
        "dtd": TorchvisionSet(datasets.DTD, _THREE, attrgetter("_labels")),
    }
)


def read_torchvision(name: str) -> tuple[tuple[str, ...], dict[str, TorchvisionPool]]:
    """Return a data set's class names and official parts, downloaded if missing.

    Raises:
        DataError: the download failed, or the cache folder is not writable.
    """
    entry, root = TORCHVISION_SETS[name], cache_dir() / "datasets"
    try:
        root.mkdir(exist_ok=True)
        # One process downloads, the others wait.
        with FileLock(root / f"{name}.lock", fallback_to_soft=False):
            found = {
                part: entry.dataset(str(root), download=True, **arguments)
                for part, arguments in entry.parts.items()
            }
    except _FAILED as error:
        reason = " ".join(str(error).split())  # torchvision's own message has several lines
        raise DataError(
            f"data set {name!r}: expected a download into {root}, got {reason}; "
            "check the network, set MBSEARCH_CACHE to another folder, or give a folder of images"
        ) from error
    pools = {
        part: TorchvisionPool(name, dataset, np.asarray(entry.labels(dataset), np.int64))
        for part, dataset in found.items()
    }
    count = 1 + max(int(pool.labels.max()) for pool in pools.values())
    classes = getattr(found["train"], "classes", range(count))
    return tuple(str(label) for label in classes), pools
