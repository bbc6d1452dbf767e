"""The HTML report: a study in one file that opens offline."""

from __future__ import annotations

import json
from collections.abc import Sequence
from html import escape
from pathlib import Path
from string import Template

from plotly.offline import get_plotlyjs

from mbsearch.analysis.answer import Answer, answer_text
from mbsearch.analysis.answer_card import AnswerCard, answer_card
from mbsearch.analysis.answer_selection import answers
from mbsearch.analysis.choice_effects import effects, rules
from mbsearch.analysis.findings import Findings, natural_budgets
from mbsearch.analysis.front import front_of, knee_of
from mbsearch.analysis.int8_loss import int8_text
from mbsearch.analysis.kept_predictions import kept_predictions
from mbsearch.analysis.published_results import published
from mbsearch.analysis.step_accuracies import accuracy_columns, accuracy_text
from mbsearch.analysis.tables import to_frame
from mbsearch.config.budgets import Budget
from mbsearch.cost.metrics import amount, find_metric, quantity, table_costs
from mbsearch.figures.audit import HEAD, audit_facts, audit_figure, audit_rows
from mbsearch.figures.choices import importance_figure, options_figure, parallel_figure
from mbsearch.figures.front import budget_shapes, front_figure
from mbsearch.figures.network import curve_figure, layer_bars
from mbsearch.figures.published import published_figure
from mbsearch.figures.retrained import margin_sentences, retrained_head, retrained_rows
from mbsearch.figures.search import hypervolume_figure
from mbsearch.figures.stages import drawing, drawing_height
from mbsearch.figures.style import BEHAVIOUR
from mbsearch.report.card_html import card_html, download_link, html_table
from mbsearch.report.errors_html import ReadPictures, errors_html, without_pictures
from mbsearch.report.figure_html import figure_html
from mbsearch.study.artifacts import Artifacts
from mbsearch.study.audit_file import Audit
from mbsearch.study.images_record import ImagesRecord, balance_note
from mbsearch.study.records import TrialRecord, complete, metric_of, score_of_study
from mbsearch.study.retrained_file import Retrained

_TEMPLATE = Path(__file__).with_name("document.html")
_BUDGET_STEPS = 200


def document(
    findings: Findings,
    title: str,
    measured: Artifacts | None = None,
    budgets: Sequence[Budget] = (),
    location: str = "results",
    read_pictures: ReadPictures = without_pictures,
) -> str:
    """Return a study's report as HTML text.

    It begins with the answers to `budgets`, by default the study's. Front and knee are of the
    networks within the study's limits and budgets. `location` names the study in commands.
    `read_pictures` returns the pictures of the errors of the first answer's network.

    Raises:
        StorageError: no trial within the limits is completed, or a budget bounds a cost that the
            study does not have.
    """
    measured = measured or Artifacts()
    records, within = findings.records, findings.within
    knee = knee_of(within)
    asked = list(budgets or findings.requested or filter(None, [findings.main_budget]))
    steps, start = _answers(findings, asked)
    front = front_figure(within).update_layout(shapes=budget_shapes(steps[start][0]))
    networks = front_of(within)
    card = answer_card(findings, budgets, measured, location)
    sections = [
        f"<h1>{escape(title)}</h1>",
        f'<p class="dim">{len(records)} trials. The {knee.score.noun} is that of '
        f"{_fidelity(records)}, on validation images only"
        f"{balance_note(findings.images, 'validation')}.</p>",
        *(f'<p class="damaged">{escape(problem)}</p>' for problem in measured.problems),
        *_card(card, networks),
        figure_html(front, "front", 560),
        '<div class="live"><label>'
        f'{find_metric(knee.metric).column}, at most<input id="budget" type="range" min="0" '
        f'value="{start}" max="{len(steps) - 1}"></label>'
        f'<p id="sentence" aria-live="polite">{escape(steps[start][1])}</p></div>',
        *_latencies(within, measured),
        "<h2>The front, by cost</h2>",
        _front_table(networks, knee, findings),
        *_errors(card, findings, measured, read_pictures),
        "<h2>Its networks</h2>",
        *(_network(record, records) for record in networks),
        "<h2>The search</h2>",
        figure_html(hypervolume_figure(records), "hypervolume", 380),
        f"<p>{download_link('trials.csv', to_frame(records, within).to_csv(index=False))}</p>",
        *_choices(records),
        "<h2>Rank agreement of the proxy</h2>",
        *_audit(measured.audit),
        *_retrained(measured.retrained, findings.images),
        *_classes(findings.images),
        "<h2>Published results on ImageNet</h2>",
        '<p class="dim">Long trainings by the authors, not comparable with the proxy above.</p>',
        figure_html(published_figure(published()), "published", 480),
    ]
    return _page(title, sections, steps)


def front_document(findings: Findings, title: str, measured: Artifacts, location: str) -> str:
    """Return an HTML page: the answer's card above a plot of the front, in the report's style."""
    figure = front_figure(findings.within)
    if findings.main_budget is not None:
        bound = findings.main_budget.bounds().get(metric_of(findings.records))
        figure.update_layout(shapes=[] if bound is None else budget_shapes(bound))
    sections = [
        f"<h1>{escape(title)}</h1>",
        *_card(answer_card(findings, (), measured, location), ()),
        figure_html(figure, "front", 640),
    ]
    return _page(title, sections, [])


def _card(card: AnswerCard | None, networks: Sequence[TrialRecord]) -> list[str]:
    return [] if card is None else [card_html(card, [r.trial for r in networks])]


def _errors(
    card: AnswerCard | None, findings: Findings, measured: Artifacts, read_pictures: ReadPictures
) -> list[str]:
    """Return the errors of the answer's network, or nothing if its predictions are not known."""
    if card is None or not isinstance(card.found, Answer):
        return []
    record = card.found.record
    kept = kept_predictions(findings.records, measured, record)
    if kept is None:
        return []
    return errors_html(record.label, kept, findings.images, read_pictures)


def _page(title: str, sections: Sequence[str], steps: Sequence[tuple[int, str]]) -> str:
    return Template(_TEMPLATE.read_text(encoding="utf-8")).substitute(
        title=escape(title),
        plotly=get_plotlyjs(),
        behaviour=BEHAVIOUR,
        body="\n".join(sections),
        answers=_script_json(steps),
    )


def _fidelity(records: Sequence[TrialRecord]) -> str:
    promoted = sum(r.promotion is not None for r in records)
    if not promoted:
        return "the proxy: a short training"
    return (
        f"the longer training for {promoted} trials, which form the front, and of the proxy for "
        "the others"
    )


def _answers(findings: Findings, asked: Sequence[Budget]) -> tuple[list[tuple[int, str]], int]:
    """Return answers for bounds evenly spaced in log cost, and the index of the one to show first.

    Round bounds are among them, and so is the first budget, which is shown first.
    """
    metric = metric_of(findings.records)
    budgets, costs = natural_budgets(findings.within), [r.cost for r in findings.within]
    own = [bound for b in asked if (bound := b.bounds().get(metric)) is not None]
    budgets += own
    low, high = min(*budgets, *costs), max(*budgets, *costs)
    spread = [round(low * (high / low) ** (i / (_BUDGET_STEPS - 1))) for i in range(_BUDGET_STEPS)]
    bounds = sorted({*spread, *budgets})
    found = answers(findings, [Budget.of({metric: bound}) for bound in bounds])
    first = bounds.index(own[0]) if own else len(bounds) // 2
    return [(b, answer_text(each)) for b, each in zip(bounds, found.values(), strict=True)], first


def _latencies(records: Sequence[TrialRecord], measured: Artifacts) -> list[str]:
    """Return a figure of accuracy against latency for each measured engine."""
    known = {r.fingerprint for r in complete(list(records))}
    return [
        figure_html(front_figure(records, metric=metric, latencies=found), f"front-{metric}", 480)
        for metric, found in measured.latencies.items()
        if known & set(found)
    ]


def _front_table(networks: Sequence[TrialRecord], knee: TrialRecord, findings: Findings) -> str:
    costs = table_costs(knee.metric, findings.known_costs)
    accuracy_head, accuracies = accuracy_columns(findings, networks)
    int8 = ["As int8"] if any(map(int8_text, networks)) else []
    balance = balance_note(findings.images, "validation")
    head = (
        "Network",
        *(f"{title}{balance}" for title in accuracy_head),
        *int8,
        *(find_metric(metric).column for metric in costs),
        "Alpha",
        "Resolution",
    )
    rows = [
        (
            f'<a href="#network-{r.trial}">{escape(r.label)}</a>'
            + (' <span class="dim">knee</span>' if r.trial == knee.trial else ""),
            *cells,
            *(int8_text(r) for _ in int8),
            *(quantity(metric, r.costs[metric]) for metric in costs),
            f"{r.architecture.alpha:g}",
            f"{r.architecture.resolution} px",
        )
        for r, cells in zip(networks, accuracies, strict=True)
    ]
    return html_table(head, rows)


def _network(record: TrialRecord, records: Sequence[TrialRecord]) -> str:
    yaml = record.architecture.to_yaml()
    return (
        f'<details id="network-{record.trial}"><summary>{escape(record.label)}, '
        f"{accuracy_text(record)}, {amount(record.metric, record.cost)}</summary>"
        f"<p>{download_link(f'{record.slug}.yaml', yaml)}</p>"
        + figure_html(
            drawing(record.architecture),
            f"drawing-{record.trial}",
            drawing_height(record.architecture),
            wide=True,
        )
        + figure_html(layer_bars(record.architecture), f"bars-{record.trial}", 420)
        + figure_html(curve_figure([record], records), f"curve-{record.trial}", 360)
        + f'<pre tabindex="0">{escape(yaml)}</pre></details>'
    )


def _audit(audit: Audit | None) -> list[str]:
    """Return the audit's results, or the command that runs an audit."""
    if audit is None:
        return ["<p>Not measured yet. Run <code>mbsearch audit</code>.</p>"]
    sentence = audit.sentence()
    return [
        f"<p><strong>{escape(sentence[0].upper() + sentence[1:])}.</strong></p>",
        f'<p class="dim">{escape(audit_facts(audit))}</p>',
        figure_html(audit_figure(audit), "agreement", 340),
        html_table(HEAD, [[escape(cell) for cell in row] for row in audit_rows(audit)]),
    ]


def _retrained(found: Sequence[Retrained], images: ImagesRecord | None) -> list[str]:
    """Return the results of retraining, or nothing if there are none."""
    if not found:
        return []
    return [
        f"<h2>Retraining{balance_note(images, 'test')}</h2>",
        html_table(
            retrained_head(found),
            [[escape(c) for c in row] for row in retrained_rows(found, found)],
        ),
        "<ul>" + "".join(f"<li>{escape(line)}</li>" for line in margin_sentences(found)) + "</ul>",
    ]


def _classes(images: ImagesRecord | None) -> list[str]:
    """Return a section of class names by output, or nothing if the study did not store them."""
    if images is None:
        return []
    rows = [(str(i), escape(name)) for i, name in enumerate(images.class_names)]
    return ["<h2>Classes</h2>", html_table(("Output", "Class"), rows)]


def _choices(records: Sequence[TrialRecord]) -> list[str]:
    """Return the effects of the choices, or nothing if there are too few trials."""
    found = effects(records)
    if not found:
        return []
    heading = score_of_study(records).heading
    return [
        "<h2>What matters</h2>",
        figure_html(importance_figure(found), "importance", 160 + 20 * len(found)),
        "<ul>" + "".join(f"<li>{escape(rule)}</li>" for rule in rules(records)) + "</ul>",
        f"<p>{heading} by option of {escape(found[0].choice)}, at similar cost:</p>",
        figure_html(options_figure(records, found[0]), "options", 420, wide=True),
        '<p>Each line is a network. <span class="live">Drag along an axis to filter by a range.'
        "</span></p>",
        figure_html(parallel_figure(records, found), "parallel", 420, wide=True),
    ]


def _script_json(value: object) -> str:
    """Return JSON that is safe inside an HTML script element."""
    return json.dumps(value).replace("</", "<\\/")
