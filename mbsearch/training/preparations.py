"""Plan and run the trainings before a search: of a teacher and a supernet."""

from __future__ import annotations

import logging
import math
from dataclasses import dataclass
from pathlib import Path

from mbsearch.config.proxy_settings import EMBEDDED
from mbsearch.config.settings import AUTO, SCRATCH, Settings
from mbsearch.config.specification import SearchSpecification
from mbsearch.data.sources import ImageSource
from mbsearch.progress import OnProgress, ignore_progress
from mbsearch.space.image_format import COLOURS
from mbsearch.training.devices import choose_device, prepare_worker
from mbsearch.training.donors.files import LITE0, Donor, find_donor
from mbsearch.training.pretrained import Pretrained, trained_donor
from mbsearch.training.resumable_training import prepare
from mbsearch.training.supernet.supernet_training import SupernetTraining
from mbsearch.training.teacher import TeacherTraining, read_logits, write_logits

SUPERNET, TEACHER, TEACHER_LOGITS = "supernet.pt", "teacher.pt", "lessons.pt"
"""Files in a study's folder: shared weights, the teacher's weights, and its logits."""

_LOGGER = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Preparations:
    """The trainings before a search, and the folder for their files.

    `space` has settings adapted to the initial weights. `supernet` is None if trials do not share
    weights.
    """

    space: SearchSpecification
    source: ImageSource
    seed: int
    device: str | None
    folder: Path
    donor: Donor | None
    supernet: Path | None

    @staticmethod
    def planned(
        space: SearchSpecification, source: ImageSource, seed: int, device: str | None, folder: Path
    ) -> Preparations:
        """Return the trainings that a specification requires on these images.

        Raises:
            DataError: there is no such donor, or its file cannot be read.
            SpecError: there is a donor, and the networks take other than colour images.
        """
        weights = space.settings.weights
        if space.input.channels != COLOURS:
            if weights not in (AUTO, SCRATCH):
                raise space.error(
                    ("weights",),
                    f"expected none for networks of input.channels {space.input.channels}, as "
                    f"donors take colour images, got {weights!r}",
                )
            weights = SCRATCH
        donor = chosen_donor(weights, source)
        name = SCRATCH if donor is None else weights
        changes: dict[str, object] = {"weights": LITE0 if name == AUTO else name}
        if donor is not None:
            changes["proxy"] = space.settings.proxy.from_donor()
            changes["finals"] = space.settings.finals.from_donor()
        space = space.with_settings(changes)
        sharing = space.settings.proxy.evaluator == "supernet"
        supernet = (folder / SUPERNET).absolute() if sharing else None
        return Preparations(space, source, seed, device, folder, donor, supernet)

    @property
    def pretrained(self) -> Pretrained | None:
        """The initial weights from the donor; None without a donor."""
        if self.donor is None:
            return None
        return _start(self.donor, self.space.settings, self.folder)

    @property
    def _teaches(self) -> bool:
        return self.donor is not None and self.space.settings.teacher.weight > 0

    @property
    def needed(self) -> bool:
        """Whether a teacher or supernet must be trained before the search."""
        return self.supernet is not None or self._teaches

    @property
    def key(self) -> str | None:
        """The donor's key; None without a donor."""
        return None if self.donor is None else self.donor.key

    @property
    def facts(self) -> tuple[str, ...]:
        """Lines of text about the initial weights; none without a donor."""
        if self.donor is None:
            return ()
        return (f"start: {self.donor.title} (--weights none trains from scratch)",)

    def run(
        self,
        space: SearchSpecification,
        deadline: float = math.inf,
        on_progress: OnProgress = ignore_progress,
    ) -> bool:
        """Train the missing teacher and supernet; return whether they are complete.

        They are not if the deadline came first.

        Args:
            space: the same, with the budgets of the study.
            deadline: latest end, on time.monotonic's clock.
            on_progress: receives an event after every step.

        Raises:
            DataError: the donor's file cannot be read.
            EvaluationError: training diverged.
            StorageError: a file cannot be written, is damaged, or belongs to another study.
        """
        prepare_worker()  # a second thread does not speed up such small networks
        device = choose_device(self.device)
        trained = None if self.donor is None else trained_donor(self.donor)
        teacher_logits = None
        if trained is not None and self._teaches:
            teacher = TeacherTraining(space, self.source, self.seed, device, donor=trained)
            path = self.folder / TEACHER_LOGITS
            if not (self.folder / TEACHER).exists():
                path.unlink(missing_ok=True)  # the logits of a teacher that was deleted
            _LOGGER.info(
                f"teacher: {teacher.settings.steps:,} steps at {teacher.settings.pixels} px"
            )
            if not prepare(
                teacher, self.folder / TEACHER, deadline=deadline, on_progress=on_progress
            ):
                return False
            if not path.exists():
                write_logits(teacher.compute_logits(), path)
            teacher_logits = read_logits(path)
            _LOGGER.info(
                f"teacher: validation accuracy {teacher_logits.accuracy:.3f} at "
                f"{teacher.settings.pixels} px, {teacher_logits.bytes / 1e6:.1f} MB of logits"
            )
        if self.supernet is None:
            return True
        supernet = SupernetTraining(space, self.source, self.seed, device, trained, teacher_logits)
        _LOGGER.info(f"supernet: {supernet.settings.steps:,} steps")
        return prepare(supernet, self.supernet, deadline=deadline, on_progress=on_progress)


def chosen_donor(weights: str, source: ImageSource) -> Donor | None:
    """Return the donor that the setting `weights` selects for these images, or None.

    Raises:
        DataError: there is no such donor, or its file cannot be read.
    """
    if weights == SCRATCH:
        return None
    if weights != AUTO:
        return find_donor(weights)
    photos = source.name != EMBEDDED and source.coloured
    return find_donor(LITE0) if photos else None


def kept_start(
    settings: Settings, source: ImageSource, folder: Path, *, teacher: bool = True
) -> Pretrained | None:
    """Return the initial weights of the networks of a study; None without a donor.

    Args:
        settings: stored in the study.
        source: its images.
        folder: folder of the study.
        teacher: whether networks learn from the study's teacher, if it has one.

    Raises:
        DataError: the donor is missing or cannot be read.
    """
    donor = chosen_donor(settings.weights, source)
    return None if donor is None else _start(donor, settings, folder, teacher=teacher)


def _start(donor: Donor, settings: Settings, folder: Path, *, teacher: bool = True) -> Pretrained:
    """Return initial weights from a donor, with the files that the settings require."""
    sharing = settings.proxy.evaluator == "supernet"
    teaching = teacher and settings.teacher.weight > 0
    return Pretrained(
        donor,
        (folder / SUPERNET).absolute() if sharing else None,
        (folder / TEACHER_LOGITS).absolute() if teaching else None,
    )
