"""The answer's card: one sentence, what else is known of the network, all budgets, next commands.

Page, report and terminal show the same card.
"""

from __future__ import annotations

import shlex
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from mbsearch.analysis.answer import Answer, at_cost
from mbsearch.analysis.answer_selection import answers
from mbsearch.analysis.fidelity_levels import retrained_accuracy
from mbsearch.analysis.findings import Findings
from mbsearch.analysis.int8_loss import int8_text
from mbsearch.analysis.intervals import Interval, points
from mbsearch.config.budgets import Budget
from mbsearch.config.scores import Score
from mbsearch.cost.metrics import MEASURED_US, quantity
from mbsearch.study.artifacts import Artifacts
from mbsearch.study.audit_file import PROXY
from mbsearch.study.records import metric_of, score_of_study


@dataclass(frozen=True, slots=True)
class Badge:
    """A fact about the network of an answer, with a longer `detail`."""

    text: str
    detail: str


@dataclass(frozen=True, slots=True)
class AnswerCard:
    """The answer for one budget, or the reason why there is none; also the other budgets.

    `rows` has the cells of `head` for each budget. Accuracy and difference have 95 % intervals.
    `commands` are what to run next.
    """

    budget: Budget
    found: Answer | str
    badges: tuple[Badge, ...]
    rows: tuple[tuple[Budget, tuple[str, ...]], ...]
    commands: tuple[str, ...]
    score: Score = Score.ACCURACY

    @property
    def head(self) -> tuple[str, ...]:
        """The columns of the rows."""
        value = self.score.heading
        return ("Budget", "Use", "Cost", value, "Compared with", "Difference (points)")

    @property
    def retrain_command(self) -> str | None:
        """The command that retrains the network, if there is one to retrain."""
        return next((each for each in self.commands if each.startswith("mbsearch retrain")), None)


def answer_card(
    findings: Findings,
    budgets: Sequence[Budget],
    measured: Artifacts,
    location: str,
    shown: Budget | None = None,
    known: dict[Budget, Answer | str] | None = None,
) -> AnswerCard | None:
    """Return the card of a study; None before a network is trained.

    Args:
        findings: of the study.
        budgets: of the rows; by default the study's.
        measured: the files beside the study.
        location: name of the study on the command line, quoted.
        shown: the budget whose answer is the sentence; by default the first of `budgets`, or the
            study's main budget.
        known: as in `answers`.

    Raises:
        StorageError: a budget bounds a cost that the study does not have.
    """
    asked = list(budgets or findings.default_budgets)
    main = shown or (budgets[0] if budgets else findings.main_budget)
    if main is None:
        return None
    found = answers(findings, [main, *asked], known)
    badges = _badges(found[main], findings, measured)
    rows = tuple((budget, _row(found[budget], budget)) for budget in asked)
    metric = metric_of(findings.records)
    commands = _commands(found[main], main.option(metric), location, measured)
    score = score_of_study(findings.records)
    return AnswerCard(main, found[main], tuple(badges), rows, tuple(commands), score)


def _row(found: Answer | str, budget: Budget) -> tuple[str, ...]:
    if isinstance(found, str):
        return budget.label, "no network yet", "", "", "", ""
    cost = quantity(found.record.metric, found.record.cost)
    first = found.searched if found.record.is_baseline else next(iter(found.margins), None)
    against, difference = "", ""
    if first is not None:
        against = f"{first.other.record.label_with_start}, {at_cost(first.cost_ratio)}"
        difference = _with_interval(first.difference, points)
    accuracy = _with_interval(found.best.accuracy, "{:.3f}".format)
    return budget.label, found.name, cost, f"{accuracy}, {found.split}", against, difference


def _with_interval(value: Interval, number: Callable[[float], str]) -> str:
    if value.exact:
        return number(value.mean)
    return f"{number(value.mean)} ({number(value.low)} to {number(value.high)})"


def _badges(found: Answer | str, findings: Findings, measured: Artifacts) -> list[Badge]:
    """Return badges for retraining, audit, latency, quantisation and initial weights."""
    if isinstance(found, str):
        return []
    record, badges = found.record, []
    tested = retrained_accuracy(findings, record.fingerprint)
    if tested is None:
        badges.append(Badge("not retrained", "Judged on validation images; retraining tests it."))
    else:
        accuracy = _with_interval(tested, "{:.3f}".format)
        badges.append(Badge(f"retrained: test {record.score.noun} {accuracy}", "95 % interval"))
    if measured.audit is not None:
        (proxy,) = (each for each in measured.audit.rankings if each.score == PROXY)
        tau = f"audited: tau {proxy.tau:.2f} ({proxy.low:.2f} to {proxy.high:.2f})"
        badges.append(Badge(tau, measured.audit.sentence()))
    for metric, latencies in measured.latencies.items():
        if record.fingerprint in latencies:
            times = latencies[record.fingerprint]
            engine = metric.removesuffix(MEASURED_US)
            quartiles = f"{quantity(metric, times.low)} to {quantity(metric, times.high)}"
            text = f"{quantity(metric, times.median)} by {engine}"
            badges.append(Badge(text, f"Median latency of one image, quartiles {quartiles}"))
    if found.int8 is not None:
        detail = f"Of the final's weights; difference to float32: {found.int8.in_points()}"
        badges.append(Badge(f"int8: validation accuracy {int8_text(record)}", detail))
    if record.fingerprint in measured.int8:
        int8 = measured.int8[record.fingerprint]
        badges.append(Badge(f"int8 file: {int8.split} accuracy {int8.accuracy:.3f}", int8.sentence))
    if record.start is not None:
        share = f"{record.start.share:.0%} of the weights are a donor's"
        badges.append(Badge(f"start: {record.start.kind.phrase}", share))
    return badges


def _commands(found: Answer | str, budget: str, location: str, measured: Artifacts) -> list[str]:
    """Return suggested next commands, with study and network names filled in."""
    dashboard = f"mbsearch dashboard {location}"
    if isinstance(found, str):
        return [dashboard, f"mbsearch status {location}"]
    chosen = f"{location} --budget {budget}"
    export = f"mbsearch export {chosen} -o {shlex.quote(found.record.slug)}"
    if "--storage" in location:  # retraining reads a study's folder only
        return [dashboard, export, f"mbsearch latency {location}"]
    if any(each.fingerprint == found.record.fingerprint for each in measured.retrained):
        return [dashboard, export, f"mbsearch report {location} -o {found.record.slug}.html"]
    return [dashboard, f"mbsearch retrain {chosen}", export]
