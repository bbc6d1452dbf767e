"""Table of retrained networks, with proxy accuracy and test accuracy."""

from __future__ import annotations

from collections.abc import Sequence

from mbsearch.analysis.intervals import points
from mbsearch.analysis.paired_comparison import compare
from mbsearch.analysis.repeated_trainings import pooled_seed_deviation_of, trainings_of_retrained
from mbsearch.cost.metrics import quantity
from mbsearch.study.retrained_file import Retrained


def retrained_head(retrained: Sequence[Retrained]) -> tuple[str, ...]:
    """Return the columns of the table. The search does not use test images."""
    noun = retrained[0].score.noun
    return ("Network", "Mult-Adds", f"Proxy {noun}", f"Test {noun}", "As int8", "Seeds")


def retrained_rows(retrained: Sequence[Retrained], study: Sequence[Retrained]) -> list[list[str]]:
    """Return one table row per retrained network, with the columns of `retrained_head`.

    Intervals are over images and seeds, whose deviation is pooled over all retrained networks of
    the `study`, as for its answers.
    """
    distinct: dict[str, Retrained] = {}
    for each in retrained:
        distinct.setdefault(each.fingerprint, each)
    pool = {each.fingerprint: trainings_of_retrained(each) for each in reversed(study)}
    deviation = pooled_seed_deviation_of(list(pool.values())) if pool else 0.0
    bounds = {key: pool[key].accuracy(deviation).bounds() for key in distinct}
    return [
        [
            each.name,
            quantity("mult_adds", each.costs["mult_adds"]),
            "not trained" if each.proxy_accuracy is None else f"{each.proxy_accuracy:.3f}",
            f"{each.accuracy:.4f} (95 % interval {bounds[key]})",
            _int8(each),
            str(len(each.seeds)),
        ]
        for key, each in distinct.items()
    ]


def _int8(retrained: Retrained) -> str:
    """Return the test accuracy as int8 with its paired difference to float32; empty if unknown."""
    accuracy, seeds = retrained.int8_accuracy, retrained.seeds
    if accuracy is None:
        return ""
    if not retrained.predictions:
        return f"{accuracy:.4f}"
    trained = dict(zip(seeds, retrained.predictions, strict=True))
    tuned = [each.predictions.correct for each in retrained.int8.values()]
    paired = compare(tuned, [trained[seed].correct for seed in retrained.int8], 0.0)
    return f"{accuracy:.4f} ({points(paired.mean)} points)"


def margin_sentences(retrained: Sequence[Retrained]) -> list[str]:
    """Return a sentence for each margin of a candidate over a reference of equal cost."""
    return [f"{margin[0].upper()}{margin[1:]}." for each in retrained for margin in each.margins]
