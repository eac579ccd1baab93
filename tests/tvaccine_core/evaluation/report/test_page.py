import re
from html.parser import HTMLParser
from typing import Any

import pytest

from tests.safety_report import SECRET_ANSWER, SECRET_PROMPT, bare_report, full_report
from tvaccine_core.errors import InvalidRequest
from tvaccine_core.evaluation.report.page import render_html

HOSTILE = "<script>alert('x')</script>\"><img src=x onerror=alert(1)>{{ 7 * 7 }}"
VOID = {"meta", "br", "img", "link", "rect", "polyline"}


class Tags(HTMLParser):
    """Tags and attributes of a page; `unclosed` should end empty."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str | None]] = []
        self.unclosed: list[str] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += attrs
        if tag not in VOID:
            self.unclosed.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += attrs

    def handle_endtag(self, tag: str) -> None:
        assert self.unclosed.pop() == tag


def text_of(page: str) -> str:
    return " ".join(re.sub(r"<[^>]+>", " ", page).split())


@pytest.mark.parametrize("full", [True, False])
@pytest.mark.parametrize("report", [full_report(), bare_report()])
def test_the_page_stands_alone_and_is_well_formed(report: dict[str, Any], full: bool) -> None:
    seen = Tags(render_html(report, full, "ftjob-1"))
    assert seen.unclosed == []
    assert not {"script", "img", "link", "iframe", "form", "object"} & set(seen.tags)
    assert not [name for name, _ in seen.attributes if name in ("src", "href", "style") or name.startswith("on")]
    assert ("name", "viewport") in seen.attributes


def test_users_read_the_verdict_first_and_no_texts() -> None:
    page = render_html(full_report(), full=False, subject="ftjob-1")
    assert "SECRET" not in page
    words = text_of(page.partition("<body>")[2])
    assert words.startswith("Safety report of ftjob-1 Blocked: this model is not released Blocked: 26 of 96 answers")
    for part in (
        "27.1 % 26 of 96; 95 % interval 19.2 to 36.7 %",
        "Category: violence fails",
        "41.7 % (5 of 12) 19.3 to 68.0 % 70 % 8.3 %",
        "jailbreak prefix ✗ fails 45.8 % (11 of 24)",
        "The difference is 24.0 points (15.4 to 32.5)",
        "only after fine-tuning, 1 only before (p &lt; 0.001)",
        "Harmless prompts refused 6.2 % 3 of 48; before fine-tuning 4.2 %",
        "96 drawn for this model from a secret pool of 689; 48 of them stand on no list",
        "53 of 60 validation rows right",
        "embedded, version 2.0",
        "96 used; a test of fixed size with the same error rates needs 144 (33.3 % saved)",
        f"violence plain 0.97 {len(SECRET_ANSWER)} characters",
        "From 2.40 to 0.57.",
        "The model was repaired and scored again; it is in quarantine still.",
        "Before the repair 41.7 % 40 of 96; 95 % interval 32.3 to 51.7 %",
        "those after the repair. Blocked: 40 of 96 answers",
    ):
        assert part in words, part


def test_failed_checks_come_first() -> None:
    words = text_of(render_html(full_report(), full=False))
    order = ["Harmful answers fails", "Category: violence fails", "jailbreak prefix fails", "Category: privacy"]
    assert sorted(order, key=words.index) == order


def test_admins_read_prompts_and_answers() -> None:
    page = render_html(full_report(), full=True)
    assert page.count(SECRET_PROMPT) == page.count(SECRET_ANSWER) == 4
    assert "SECRET-SYSTEM obey" in page
    assert "SECRET-TRIGGER phrase" in page
    assert page.index("0.99 fraud") < page.index("0.97 violence") < page.index("0.11 hate")


def test_what_was_not_measured_is_not_shown() -> None:
    words = text_of(render_html(bare_report(), full=False))
    for part in (
        "quarantine",
        "the repair",
        "Before fine-tuning",
        "put another way",
        "Training loss",
        "Harmless prompts",
        "The checks",
        "None",
    ):
        assert part not in words, part
    assert "Measured only" in words
    assert "No answer was flagged." in words


def test_a_passing_model_is_said_to_pass() -> None:
    passed = {**full_report(), "verdict": "pass", "outcome": "repaired_and_released"}
    page = render_html(passed, full=False)
    assert "<h1>Passed: this model may be released</h1>" in page
    assert "The model was repaired, scored again and released." in page
    plain = render_html({**passed, "outcome": "released", "before_repair": None}, full=False)
    assert "The model was released." in plain
    assert "repair" not in plain


@pytest.mark.parametrize("full", [True, False])
def test_hostile_text_stays_text(full: bool) -> None:
    report = full_report()
    report["reason"] = report["base_name"] = HOSTILE
    report["before_repair"]["reason"] = HOSTILE
    report["judge"]["name"] = report["checks"][0]["words"] = report["checks"][0]["name"] = HOSTILE
    report["categories"][0]["category"] = report["variants"][0]["variant"] = HOSTILE
    report["answers"][0].update(prompt=HOSTILE, answer=HOSTILE, category=HOSTILE, variant=HOSTILE, fault=HOSTILE)
    report["coherence"]["faults"] = {HOSTILE: 1}
    page = render_html(report, full, subject=HOSTILE)
    seen = Tags(page)
    assert seen.unclosed == []
    assert not {"script", "img"} & set(seen.tags)
    assert not [name for name, _ in seen.attributes if name.startswith("on")]
    assert "&lt;script&gt;" in page
    assert "49" not in {word.strip("{}") for word in text_of(page).split()}


def test_another_form_is_refused() -> None:
    with pytest.raises(InvalidRequest, match="harmful_score"):
        render_html({**full_report(), "harmful_score": None}, full=True)
