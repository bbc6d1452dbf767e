"""The answer's card: its sentence is right for ten kinds of studies, and the same in all places."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
from answer_records import evaluation, network, reference
from fake_search import search
from shown_text import html_text, page_text

from mbsearch.analysis.answer import answer_text
from mbsearch.analysis.answer_card import AnswerCard, answer_card
from mbsearch.analysis.findings import Findings
from mbsearch.cli import main
from mbsearch.cli.run import _print_findings
from mbsearch.config.budgets import Budget
from mbsearch.dashboard.app import _notice
from mbsearch.dashboard.pages import front
from mbsearch.dashboard.studies import Library, ResultsFolder, Snapshot
from mbsearch.errors import StorageError
from mbsearch.report.html import document, front_document
from mbsearch.space.size import Size
from mbsearch.study.answer_folders import Int8Accuracy
from mbsearch.study.artifacts import Artifacts
from mbsearch.study.latency_file import Quartiles
from mbsearch.study.records import State, TrialRecord
from mbsearch.study.retrained_file import Retrained
from mbsearch.study_run import RunResult

BUDGET = Budget(mult_adds=20_000_000)
V2 = reference(1, 0.70, 15_700_000, 0.17, 160)
LARGE = reference(2, 0.752, 28_000_000, 0.35, 192)
OURS = network(43, 0.75, 12_200_000)


@dataclass(frozen=True)
class Study:
    """A study with the sentence that its card must have; `where` is the budget."""

    sentence: str
    records: Iterable[TrialRecord]
    retrained: tuple[Retrained, ...] = ()
    budgets: tuple[Budget, ...] = (BUDGET,)

    @property
    def findings(self) -> Findings:
        records = [
            replace(r, costs={**r.costs, "peak_activation_bytes": 10**6}) for r in self.records
        ]
        return Findings(records, self.retrained, budgets=self.budgets)


def exact(*records: TrialRecord) -> list[TrialRecord]:
    """Records with little noise."""
    return [replace(record, accuracy_noise=0.001) for record in records]


def promoted(record: TrialRecord, accuracy: float) -> TrialRecord:
    return replace(record, promotion=evaluation(accuracy, pixels=96), promotion_noise=0.005)


def timed(record: TrialRecord, microseconds: int) -> TrialRecord:
    costs = {**record.costs, "latency_us": microseconds}
    return replace(record, costs=costs, metric="latency_us")


def retrained_row(record: TrialRecord, accuracies: tuple[float, ...]) -> Retrained:
    return Retrained(
        name=record.label,
        family=record.origin,
        fingerprint=record.fingerprint,
        alpha=record.architecture.alpha,
        resolution=record.architecture.resolution,
        costs=dict(record.costs),
        proxy_accuracy=record.accuracy,
        seeds=tuple(range(len(accuracies))),
        accuracies=accuracies,
        pixels=Size.square(96),
        seconds=1.0,
        architecture=record.architecture,
        images=10_000,
    )


SHORT = "screening, trained at 24 px instead of its own"
STUDIES = {
    "clear win": Study(
        "At 20 M Mult-Adds: use trial 43, 12.2 M Mult-Adds, validation accuracy 0.750 (95 % "
        f"interval 0.740 to 0.760, {SHORT} 96); +5.0 points over MobileNetV2 0.17/160 at 0.78 "
        "times the cost (15.7 M, 0.700; 95 % interval +3.6 to +6.4, significant)",
        [OURS, V2],
    ),
    "fewer Mult-Adds at equal accuracy": Study(
        "At 50 M Mult-Adds: use MobileNetV2 0.35/192, 28 M Mult-Adds, validation accuracy 0.752 "
        f"(95 % interval 0.750 to 0.754, {SHORT} 192); no searched network is better: +0.2 points "
        "over trial 43 at 2.30 times the cost (12.2 M, 0.750; 95 % interval -0.1 to +0.5, "
        "statistically tied within 1 point); trial 43 (12.2 M, 0.750) is as accurate within 1 "
        "point at 0.44 times the cost",
        exact(OURS, LARGE, V2),
        budgets=(Budget(mult_adds=50_000_000),),
    ),
    "tie": Study(
        "At 20 M Mult-Adds: use trial 43, 12.2 M Mult-Adds, validation accuracy 0.750 (95 % "
        f"interval 0.748 to 0.752, {SHORT} 96); +0.1 points over MobileNetV2 0.17/160 at 0.78 "
        "times the cost (15.7 M, 0.749; 95 % interval -0.2 to +0.4, statistically tied within 1 "
        "point); as accurate as MobileNetV2 0.35/192 (28 M, 0.752) within 1 point at 0.44 times "
        "the cost",
        exact(OURS, replace(V2, evaluation=evaluation(0.749)), LARGE),
        budgets=(BUDGET, Budget(mult_adds=30_000_000)),
    ),
    "loss": Study(
        "At 20 M Mult-Adds: use MobileNetV2 0.17/160, 15.7 M Mult-Adds, validation accuracy 0.850 "
        f"(95 % interval 0.840 to 0.860, {SHORT} 160); no searched network is better: +10.0 points "
        "over trial 43 at 1.29 times the cost (12.2 M, 0.750; 95 % interval +8.6 to +11.4, "
        "significant)",
        [OURS, replace(V2, evaluation=evaluation(0.85))],
    ),
    "one trial": Study(
        "At 20 M Mult-Adds: use trial 43, 12.2 M Mult-Adds, validation accuracy 0.750 (95 % "
        f"interval 0.702 to 0.793, {SHORT} 96); no MobileNet of this budget is known from "
        "screening",
        [replace(OURS, accuracy_noise=None)],
    ),
    "two front points": Study(
        "At 20 M Mult-Adds: use trial 43, 12.2 M Mult-Adds, validation accuracy 0.750 (95 % "
        f"interval 0.740 to 0.760, {SHORT} 96); no MobileNet of this budget is known from "
        "screening",
        [OURS, network(7, 0.65, 5_000_000)],
    ),
    "retrained": Study(
        "At 20 M Mult-Adds: use MobileNetV2 0.17/160, 15.7 M Mult-Adds, test accuracy 0.940 (95 % "
        "interval 0.931 to 0.948, retraining, trained at 96 px instead of its own 160); no "
        "searched network is better: +2.0 points over trial 43 at 1.29 times the cost (12.2 M, "
        "0.920; 95 % interval +0.7 to +3.3, significant)",
        [OURS, V2],
        retrained=(retrained_row(OURS, (0.92, 0.92)), retrained_row(V2, (0.94, 0.94))),
    ),
    "latency objective": Study(
        "At 5 ms latency: use trial 43, 2 ms latency, validation accuracy 0.750 (95 % interval "
        f"0.740 to 0.760, {SHORT} 96); +5.0 points over MobileNetV2 0.17/160 at 0.50 times the "
        "cost (4 ms, 0.700; 95 % interval +3.6 to +6.4, significant)",
        [timed(OURS, 2000), timed(V2, 4000)],
        budgets=(Budget.of({"latency_us": 5000}),),
    ),
    "promoted": Study(
        "At 20 M Mult-Adds: use trial 43, 12.2 M Mult-Adds, validation accuracy 0.860 (95 % "
        "interval 0.850 to 0.870, promotion); +3.0 points over MobileNetV2 0.17/160 trained at 96 "
        "px at 0.78 times the cost (15.7 M, 0.830; 95 % interval +1.6 to +4.4, significant)",
        [promoted(OURS, 0.86), promoted(V2, 0.83), network(8, 0.80, 10**7)],
    ),
}
FAILED = [
    replace(OURS, trial=i, state=State.FAILED, evaluation=None, error="out of memory")
    for i in range(2)
]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a study, whose findings the tests replace."""
    folder = tmp_path_factory.mktemp("card") / "tiny"
    search(folder, trials=1)
    return folder


def printed(
    folder: Path,
    findings: Findings,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> list[list[str]]:
    """Return the lines that ``status`` and the end of ``run`` print of these findings."""
    monkeypatch.setattr("mbsearch.analysis.findings.findings_of", lambda *_: findings)
    with pytest.raises(SystemExit):
        main(["status", str(folder)])
    shown = [capsys.readouterr().out.splitlines()]
    result = RunResult(folder, list(findings.records), exhausted=False, identity={})
    _print_findings(result, None, as_json=False, export=False)
    return [*shown, capsys.readouterr().out.splitlines()]


@pytest.mark.parametrize("kind", STUDIES)
def test_the_sentence_is_right_and_the_same_in_page_report_status_and_run(
    kind: str, folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    study = STUDIES[kind]
    findings = study.findings
    shown = card(findings)
    assert answer_text(shown.found) == study.sentence
    sentence = f"{study.sentence}."
    for lines in printed(folder, findings, capsys, monkeypatch):
        assert lines[-4] == sentence
        commands = lines[-3:]
        assert commands[0].startswith(f"next: mbsearch dashboard {folder}")
        assert all(str(folder) in command for command in commands)
    snapshot = Snapshot(
        "tiny",
        "tiny",
        folder,
        records=tuple(findings.records),
        settings={"budgets": [b.model_dump(mode="json") for b in findings.budgets]},
        measured=Artifacts(retrained=study.retrained),
    )
    page = front.layout(snapshot, {}, Library(ResultsFolder(folder)))
    assert sentence in page_text(page)
    assert sentence in html_text(document(findings, "title"))
    assert sentence in html_text(front_document(findings, "title", Artifacts(), "results"))


def test_a_study_whose_trainings_all_failed_says_so(
    folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    findings = Findings(FAILED, budgets=(BUDGET,))
    sentence = "At 20 M Mult-Adds: no network is trained yet"
    assert answer_text(card(findings).found) == sentence
    for lines in printed(folder, findings, capsys, monkeypatch):
        assert lines[0].endswith("2 failed")
        assert "  trial 1 failed: out of memory" in lines
        assert f"{sentence}." in lines
    notice = _notice(Snapshot("tiny", "tiny", folder, records=tuple(FAILED)))
    assert notice is not None
    assert (notice.title, "out of memory" in notice.text) == ("Every training has failed", True)
    with pytest.raises(StorageError, match="expected at least one complete trial, got none yet"):
        document(findings, "title")


def card(findings: Findings, measured: Artifacts | None = None) -> AnswerCard:
    found = answer_card(findings, (), measured or Artifacts(), "results/tiny")
    assert found is not None
    return found


def test_no_budget_is_chosen_by_its_result() -> None:
    """Other accuracies, the same budget first and the same rows."""
    records = [reference(i, 0.5 + 0.1 * i, cost) for i, cost in enumerate((3_000_000, 60_000_000))]
    better = [replace(r, evaluation=evaluation(0.9 - r.accuracy / 2)) for r in records]
    first, second = card(Findings(records)), card(Findings(better))
    assert first.budget == second.budget == Budget(mult_adds=10_000_000)
    assert [b for b, _ in first.rows] == [b for b, _ in second.rows]
    assert [row[0] for _, row in first.rows] == [f"{n} M Mult-Adds" for n in (5, 10, 20, 50)]


def test_badges_name_what_else_is_known_of_the_network() -> None:
    study = STUDIES["retrained"]
    latencies = {"onnxruntime_us": {V2.fingerprint: Quartiles(900.0, 1000.0, 1200.0)}}
    int8 = {V2.fingerprint: Int8Accuracy(0.931, "test", "int8 classifies 0.9310 ...")}
    measured = Artifacts(latencies=latencies, int8=int8, retrained=study.retrained)
    texts = [badge.text for badge in card(study.findings, measured).badges]
    assert texts == [
        "retrained: test accuracy 0.940 (0.931 to 0.948)",
        "1 ms by onnxruntime",
        "int8 file: test accuracy 0.931",
    ]
    plain = card(STUDIES["clear win"].findings)
    assert [badge.text for badge in plain.badges] == ["not retrained"]
    assert plain.retrain_command == "mbsearch retrain results/tiny --budget 20M"
    assert plain.commands[-1] == "mbsearch export results/tiny --budget 20M -o trial-43"


def test_the_probability_of_a_higher_accuracy_is_a_detail_of_the_margin_only() -> None:
    found = STUDIES["clear win"].findings
    page = document(found, "title")
    assert 'title="P(more accurate) = 1.00"' in page
    assert "P(more accurate)" not in html_text(page)
