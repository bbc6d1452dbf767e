"""The scores that a study can maximise: accuracy, or one that weights all classes equally."""

from __future__ import annotations

from enum import StrEnum


class Score(StrEnum):
    """What is computed from the true and predicted classes of a split's images, in [0, 1].

    `ACCURACY` is the share of images classified correctly, `BALANCED` the mean recall of the
    classes, `F1` the mean F1 score of the classes (macro average).
    """

    ACCURACY = "accuracy"
    BALANCED = "balanced_accuracy"
    F1 = "f1_macro"

    @property
    def noun(self) -> str:
        """The score in a sentence, such as ``balanced accuracy``."""
        return {Score.BALANCED: "balanced accuracy", Score.F1: "macro F1"}.get(self, "accuracy")

    @property
    def heading(self) -> str:
        """The score at the beginning of a title, such as ``Balanced accuracy``."""
        return self.noun[0].upper() + self.noun[1:]

    def of_largest_class(self, share: float, classes: int) -> float:
        """Return the score of always predicting the largest class.

        Args:
            share: of the images that are of the largest class.
            classes: number of classes.
        """
        if self is Score.BALANCED:
            return 1 / classes
        return 2 * share / (1 + share) / classes if self is Score.F1 else share
