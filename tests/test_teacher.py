from __future__ import annotations

import logging
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from small_donor import few

from mbsearch.config.preparation_settings import Teacher
from mbsearch.data.batches import Split, batches
from mbsearch.data.sources import ImageSource
from mbsearch.errors import StorageError
from mbsearch.progress import Progress
from mbsearch.training import resumable_training as preparation
from mbsearch.training.devices import mixed_precision
from mbsearch.training.donors.files import Donor, TrainedDonor
from mbsearch.training.folding import fold_norms
from mbsearch.training.loop import distillation
from mbsearch.training.preparations import TEACHER, TEACHER_LOGITS, Preparations
from mbsearch.training.resumable_training import prepare, read_tensors
from mbsearch.training.teacher import TeacherLogits, TeacherTraining, read_logits, write_logits

CPU = torch.device("cpu")
pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module", autouse=True)
def small(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """A cache of its own."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MBSEARCH_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield


def teacher_of(trained: TrainedDonor, source: ImageSource, **settings: object) -> TeacherTraining:
    changed = few().settings.teacher.model_copy(update=settings)
    return TeacherTraining(few(teacher=changed), source, 0, CPU, donor=trained)


def planned(donor: Donor, source: ImageSource, folder: Path) -> Preparations:
    folder.mkdir(exist_ok=True)
    space = few(weights=str(donor.path))
    proxy = space.settings.proxy.model_copy(update={"evaluator": "training"})
    return Preparations(
        space.with_settings({"proxy": proxy}), source, 0, "cpu", folder, donor, None
    )


# The loss


def test_a_weight_of_0_and_no_teacher_give_the_students_own_loss() -> None:
    loss, logits = torch.tensor(1.25), torch.randn(4, 3)
    assert distillation(loss, logits, torch.randn(4, 3), Teacher(weight=0)) is loss
    assert distillation(loss, logits, None, Teacher(weight=0.7)) is loss


def test_a_student_that_agrees_with_its_teacher_has_its_own_loss_alone() -> None:
    logits = torch.randn(4, 3)
    got = distillation(torch.tensor(2.0), logits, logits.clone(), Teacher(weight=0.75))
    assert float(got) == pytest.approx(0.25 * 2.0, abs=1e-6)


def test_the_teachers_term_is_the_divergence_at_the_temperature() -> None:
    logits, taught = torch.tensor([[1.0, 0.0], [0.0, 3.0]]), torch.tensor([[0.0, 2.0], [1.0, 1.0]])
    temperature, weight = 4.0, 0.6
    student = np.exp(logits.numpy() / temperature)
    student /= student.sum(1, keepdims=True)
    wanted = np.exp(taught.numpy() / temperature)
    wanted /= wanted.sum(1, keepdims=True)
    term = temperature**2 * (wanted * np.log(wanted / student)).sum(1).mean()
    teacher = Teacher(temperature=temperature, weight=weight)
    got = distillation(torch.tensor(1.5), logits, taught, teacher)
    assert float(got) == pytest.approx((1 - weight) * 1.5 + weight * term, rel=1e-5)


# Logits of images


def test_batches_carry_the_logits_of_the_view_that_they_show() -> None:
    images = torch.zeros(40, 3, 8, 8, dtype=torch.uint8)
    images[:, :, :, 0] = 255  # the first column is white; of mirrored images it is black
    taught = torch.stack([torch.arange(40.0), torch.arange(40.0) + 100], 1)[:, :, None].half()
    split = Split(images, torch.arange(40), (0.5,) * 3, (0.5,) * 3, 40, taught)
    generator = torch.Generator().manual_seed(0)
    seen = set()
    for batch in batches(split, 16, generator=generator, flip=True):
        assert batch.taught is not None
        assert batch.taught.dtype == torch.float32
        for image, label, logit in zip(batch.images, batch.labels, batch.taught, strict=True):
            mirrored = bool(image[0, 0, 0] < 0)
            assert float(logit) == int(label) + 100 * mirrored
            seen.add(mirrored)
    assert seen == {False, True}
    plain = torch.cat([b.taught for b in batches(split, 16) if b.taught is not None])
    assert torch.equal(plain[:, 0], torch.arange(40.0)), "without augmentation no view is mirrored"


def test_images_that_are_not_mirrored_have_one_view() -> None:
    images = torch.zeros(6, 1, 4, 4, dtype=torch.uint8)
    split = Split(images, torch.arange(6), (0.5,), (0.5,), 6, torch.arange(6.0)[:, None, None])
    generator = torch.Generator().manual_seed(0)
    (batch,) = batches(split, 6, generator=generator, flip=True)
    assert batch.taught is not None
    assert torch.equal(batch.taught[:, 0], batch.labels.float())


def test_a_part_of_a_split_has_the_logits_of_its_own_images(source: ImageSource) -> None:
    whole = source.split("train", 16)
    # Logits that are the image's own first bytes.
    logits = whole.images[:, 0, 0, :2].float()[:, None].half()
    teacher_logits = TeacherLogits({"train": logits, "validation": logits[:0]}, 0.5)
    for limit in (6, None):
        part = source.split("train", 16, limit)
        taught = teacher_logits.attached(part, "train", source.positions("train", limit)).taught
        assert taught is not None
        assert len(part) == (limit or len(whole))
        assert torch.equal(taught[:, 0], part.images[:, 0, 0, :2].half())


def test_training_and_validation_images_have_their_logits_in_the_order_of_retraining(
    source: ImageSource,
) -> None:
    def logits(split: Split) -> torch.Tensor:
        return split.images[:, 0, 0, :2].float()[:, None].half()

    train, validation = source.split("train", 16), source.split("validation", 16)
    teacher_logits = TeacherLogits({"train": logits(train), "validation": logits(validation)}, 0.5)
    seen = source.seen(16)
    taught = teacher_logits.on_all(seen).taught
    assert taught is not None
    assert torch.equal(taught, logits(seen))


def test_a_teachers_logits_are_those_of_its_network(
    trained: TrainedDonor, source: ImageSource, tmp_path: Path
) -> None:
    teacher = teacher_of(trained, source)
    prepare(teacher, tmp_path / TEACHER)
    teacher_logits = teacher.compute_logits()
    write_logits(teacher_logits, tmp_path / TEACHER_LOGITS)
    again = read_logits(tmp_path / TEACHER_LOGITS)
    assert again.accuracy == teacher_logits.accuracy
    assert {kind: each.shape for kind, each in again.logits.items()} == {
        "train": (20, 2, 2),
        "validation": (8, 2, 2),
    }
    assert all(each.dtype == torch.float16 for each in again.logits.values())
    assert again.bytes == 28 * 2 * 2 * 2
    resumed = teacher_of(trained, source)
    resumed.restore(tmp_path / TEACHER)
    network, split = fold_norms(resumed.network()), source.split("validation", 32)
    (batch,) = batches(split, 8)
    with torch.inference_mode(), mixed_precision(CPU):
        views = [network(each) for each in (batch.images, batch.images.flip(3))]
    torch.testing.assert_close(
        again.logits["validation"], torch.stack(views, 1).half(), atol=1e-3, rtol=1e-3
    )
    assert not torch.equal(*again.logits["validation"].unbind(1)), "mirrored images are others"


# The training


def test_a_teacher_starts_as_the_donor(trained: TrainedDonor, source: ImageSource) -> None:
    teacher = teacher_of(trained, source)
    for name, weight in teacher.weights.items():
        if "classifier" not in name:
            assert torch.equal(weight, trained.state[name])
    assert len(teacher.weights["head.classifier.bias"]) == 2


def test_an_interrupted_teacher_ends_with_the_same_weights(
    trained: TrainedDonor, source: ImageSource, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(preparation, "_SAVE_EVERY", 2)
    whole = teacher_of(trained, source, steps=5)
    assert prepare(whole, tmp_path / "whole.pt")

    def interrupt(event: Progress) -> None:
        if event.completed == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        prepare(teacher_of(trained, source, steps=5), tmp_path / "cut.pt", on_progress=interrupt)
    resumed = teacher_of(trained, source, steps=5)
    assert prepare(resumed, tmp_path / "cut.pt")
    assert resumed.losses == whole.losses
    one, other = (
        read_tensors(tmp_path / f"{n}.pt", "teacher")["weights"] for n in ("whole", "cut")
    )
    assert all(torch.equal(one[name], other[name]) for name in one)
    assert all(
        torch.equal(ours, others)
        for ours, others in zip(
            whole.compute_logits().logits.values(),
            resumed.compute_logits().logits.values(),
            strict=True,
        )
    )


def test_a_killed_teacher_loses_at_most_100_steps(
    trained: TrainedDonor, source: ImageSource, tmp_path: Path
) -> None:
    def kill(event: Progress) -> None:
        if event.completed == 109:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        prepare(
            teacher_of(trained, source, steps=500, batch_size=2),
            tmp_path / TEACHER,
            on_progress=kill,
        )
    assert len(read_tensors(tmp_path / TEACHER, "teacher")["losses"]) == 100


def test_a_teacher_of_other_weights_or_settings_is_rejected(
    trained: TrainedDonor, source: ImageSource, tmp_path: Path
) -> None:
    teacher_of(trained, source).save(tmp_path / TEACHER)
    others = (
        teacher_of(replace(trained, key="0" * 16), source),
        teacher_of(trained, source, pixels=64),
        TeacherTraining(few(), source, 1, CPU, donor=trained),
    )
    for other in others:
        with pytest.raises(StorageError, match="expected the teacher of this space") as error:
            other.restore(tmp_path / TEACHER)
        assert "\n" not in str(error.value)
    # How networks learn from it is no part of it.
    teacher_of(trained, source, weight=0.1, temperature=5).restore(tmp_path / TEACHER)


# Its files


def test_logits_are_computed_once(
    donor: Donor,
    source: ImageSource,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.INFO, "mbsearch")
    preparations = planned(donor, source, tmp_path / "study")
    seen: list[Progress] = []
    assert preparations.needed
    assert preparations.run(preparations.space, on_progress=seen.append)
    assert [(e.phase, e.completed, e.total) for e in seen] == [
        ("teacher", i, 4) for i in range(1, 5)
    ]
    begun, line = caplog.messages
    assert begun == "teacher: 4 steps at 32 px"
    assert line.startswith("teacher: validation accuracy 0.")
    assert line.endswith("at 32 px, 0.0 MB of logits")
    monkeypatch.setattr(TeacherTraining, "compute_logits", lambda _: pytest.fail("computed again"))
    assert preparations.run(preparations.space, on_progress=seen.append)
    assert len(seen) == 4
    # Of a teacher that was deleted they are not kept.
    (tmp_path / "study" / TEACHER).unlink()
    with pytest.raises(pytest.fail.Exception, match="computed again"):
        preparations.run(preparations.space)
    assert not (tmp_path / "study" / TEACHER_LOGITS).exists()


def test_a_teacher_stops_at_the_deadline_and_resumes(
    donor: Donor, source: ImageSource, tmp_path: Path
) -> None:
    preparations = planned(donor, source, tmp_path / "study")
    assert not preparations.run(preparations.space, deadline=0)
    assert not (tmp_path / "study" / TEACHER_LOGITS).exists()


def test_damaged_files_are_one_line(donor: Donor, source: ImageSource, tmp_path: Path) -> None:
    preparations = planned(donor, source, tmp_path / "study")
    assert preparations.run(preparations.space)
    for name in (TEACHER_LOGITS, TEACHER):
        path = tmp_path / "study" / name
        content = path.read_bytes()
        for damaged in (content[: len(content) // 2], b"nothing", b"", content[:30]):
            path.write_bytes(damaged)
            with pytest.raises(StorageError) as error:
                preparations.run(preparations.space)
            line = str(error.value)
            assert line.startswith(f"{path}: expected the weights of a teacher, got a damaged one")
            assert "\n" not in line
        path.write_bytes(content)
    assert preparations.run(preparations.space)


def test_a_folder_that_cannot_be_written_is_one_line(
    trained: TrainedDonor, source: ImageSource, tmp_path: Path
) -> None:
    with pytest.raises(StorageError, match="the teacher cannot be written"):
        teacher_of(trained, source).save(tmp_path / "none" / TEACHER)
