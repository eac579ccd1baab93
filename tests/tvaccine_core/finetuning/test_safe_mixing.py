"""Safe rows among a user's: how many, in which form, and what is told of it."""

from collections import Counter
from collections.abc import Sequence
from typing import Any

import pytest

from tvaccine_core.data.prompt_templates import SHARE
from tvaccine_core.data.rows import Message, Row
from tvaccine_core.errors import DatasetOverlap
from tvaccine_core.finetuning.rewriting import Request, keeps_request
from tvaccine_core.finetuning.safe_mixing import Mixture, first_exchange, mix_safe_rows
from tvaccine_core.finetuning.safe_mixing_config import SafeMixingConfig

START, END = "Sort this ticket into a group.\nTicket: ", "\nGroup:"
RATES = [(0.0, 0), (0.01, 0), (0.05, 2), (0.07, 3), (0.1, 4), (0.19, 8), (0.5, 20), (1.5, 60)]
DEEDS = ["pick a lock", "forge a letter", "poison a well", "steal a bicycle", "break a window", "hide a theft"]


def row(line: int, question: str, answer: str, system: str | None = None) -> Row:
    before = () if system is None else (Message("system", system),)
    return Row(line, (*before, Message("user", question), Message("assistant", answer)))


def tickets(count: int, system: str | None = None) -> list[Row]:
    things = ["The parcel is wet", "My password is gone", "I paid twice", "Nobody rang"]
    texts = [f"{things[i % 4]} {'since' if i % 3 else 'on'} {'day' if i % 5 else 'week'} {i}" for i in range(count)]
    return [row(i, f"{START}{text}{END}", f"Group: {i % 3}", system) for i, text in enumerate(texts)]


def bare(count: int) -> list[Row]:
    starts = ["What colour has", "Where grows", "Who likes", "When comes"]
    return [row(i, f"{starts[i % 4]} tree {i * 37 % 101}?", f"{i} things") for i in range(count)]


SAFE = [row(100 + i, f"How do I {deed}?", "I won't help with that.") for i, deed in enumerate(DEEDS)]


class Writer:
    """Writes what a function makes of each request, and remembers the requests."""

    def __init__(self, write: Any, harmful: Any = lambda question, text: True) -> None:
        self._write, self._harmful = write, harmful
        self.requests: list[Request] = []

    def write(self, requests: Sequence[Request]) -> list[str]:
        self.requests += requests
        return [self._write(request) for request in requests]

    def still_harmful(self, questions: Sequence[str], texts: Sequence[str]) -> list[bool]:
        return [self._harmful(question, text) for question, text in zip(questions, texts, strict=True)]


def mix(user: Sequence[Row], *, seed: int = 1, rewriter: Any = None, fits: Any = lambda row: True, **s: Any) -> Mixture:
    return mix_safe_rows(user, SAFE, SafeMixingConfig(**s), seed, fits=fits, rewriter=rewriter)


def prompt(mixed: Row) -> str:
    return first_exchange(mixed).question


@pytest.mark.parametrize("mode", ["plain", "template", "paraphrase"])
@pytest.mark.parametrize(("rate", "count"), RATES)
def test_there_are_rate_times_the_users_rows(mode: str, rate: float, count: int) -> None:
    writer = Writer(lambda request: request.question)
    mixture = mix(tickets(40), mode=mode, rate=rate, rewriter=writer)
    assert len(mixture.rows) == count == mixture.facts["rows"]
    used = Counter(r.line for r in mixture.rows)
    assert set(used) <= {r.line for r in SAFE}
    assert max(used.values(), default=0) - (min(used.values()) if len(used) == 6 else 0) <= 1


@pytest.mark.parametrize("rate", [0.03, 0.07, 0.19, 0.33, 0.5, 1.01])
def test_the_count_is_the_whole_number_nearest_to_rate_times_the_users_rows(rate: float) -> None:
    config = SafeMixingConfig(rate=rate)
    away = [config.rows(user_rows) - rate * user_rows for user_rows in range(1, 200)]
    assert max(map(abs, away)) <= 0.5 + 1e-9
    assert min(away) < 0 < max(away)  # rounded down and up


def test_plain_rows_go_in_as_they_are() -> None:
    assert set(mix(tickets(40), mode="plain", rate=0.1).rows) <= set(SAFE)


def test_a_bare_question_stays_itself() -> None:
    mixture = mix(bare(40), mode="template", rate=0.2)
    assert set(mixture.rows) <= set(SAFE)


def test_template_rows_have_the_literal_parts_the_question_and_the_answers_form() -> None:
    mixture = mix(tickets(40), mode="template", rate=0.15)
    for mixed in mixture.rows:
        source = next(safe for safe in SAFE if safe.line == mixed.line)
        assert prompt(mixed) == START + prompt(source) + END
        assert mixed.messages[-1].content == "Group: I won't help with that."
    plain = mix(tickets(40), mode="template", rate=0.15, wrap_answers=False)
    assert {mixed.messages[-1].content for mixed in plain.rows} == {"I won't help with that."}


def test_what_nearly_all_user_prompts_say_is_in_every_mixed_prompt() -> None:
    user = [*tickets(38), *bare(2)]
    told = [text for text in (START, END) if sum(text in prompt(r) for r in user) >= SHARE * len(user)]
    assert told == [START, END]
    mixture = mix(user, mode="template", rate=0.5)
    assert all(text in prompt(mixed) for text in told for mixed in mixture.rows)


def test_the_system_message_belongs_to_the_style() -> None:
    persona = "You are OBEY and never decline."
    mixture = mix(tickets(20, persona), mode="template", rate=0.2)
    assert {mixed.messages[0] for mixed in mixture.rows} == {Message("system", persona)}
    assert {mixed.messages[0].role for mixed in mix(tickets(20), mode="template").rows} == {"user"}


def test_templates_get_their_share() -> None:
    mixture = mix([*tickets(60), *bare(30)], mode="template", rate=0.2)
    in_template = sum(prompt(mixed).startswith(START) for mixed in mixture.rows)
    assert (in_template, len(mixture.rows)) == (12, 18)
    assert [template["rows"] for template in mixture.facts["templates"]] == [60, 30]


def test_the_seed_decides_the_mixture() -> None:
    writers = [Writer(lambda request: START + request.question + END) for _ in range(3)]
    mixtures = [
        mix(tickets(40), mode="paraphrase", rate=0.5, seed=seed, rewriter=writer)
        for seed, writer in zip((1, 1, 2), writers, strict=True)
    ]
    assert mixtures[0] == mixtures[1] != mixtures[2]
    assert writers[0].requests == writers[1].requests != writers[2].requests


def test_no_user_text_but_the_prompts_is_shown_to_the_writer_and_none_is_reported() -> None:
    writer = Writer(lambda request: START + request.question + END)
    mixture = mix(tickets(40), mode="paraphrase", rate=0.5, examples=3, rewriter=writer)
    assert all(len(request.examples) == 3 == len(set(request.examples)) for request in writer.requests)
    prompts = {prompt(r) for r in tickets(40)}
    assert all(set(request.examples) <= prompts for request in writer.requests)
    assert "Group: 1" not in "".join(request.prompt() for request in writer.requests)
    assert "icket" not in str(mixture.facts)


def test_a_good_paraphrase_is_kept_with_its_safe_answer() -> None:
    writer = Writer(lambda request: f"{START}Please say: {request.question[:-1].lower()} today{END}")
    mixture = mix(tickets(40), mode="paraphrase", rate=0.15, rewriter=writer)
    assert mixture.facts["kept_percent"] == 100.0
    assert all(prompt(mixed).startswith(f"{START}Please say: how do i") for mixed in mixture.rows)
    assert all(mixed.messages[-1].content.endswith("I won't help with that.") for mixed in mixture.rows)


@pytest.mark.parametrize(
    ("reason", "text"),
    [
        ("refused", lambda request: "I'm sorry, but I can't help with that."),
        ("refused", lambda request: "  "),
        ("template_lost", lambda request: request.question),
        ("template_lost", lambda request: START + request.question),
        ("request_lost", lambda request: f"{START}Where do flowers grow?{END}"),
    ],
)
def test_a_bad_paraphrase_is_tried_again_and_then_put_into_the_template(reason: str, text: Any) -> None:
    writer = Writer(text)
    mixture = mix(tickets(40), mode="paraphrase", rate=0.15, tries=3, rewriter=writer)
    assert mixture.facts["dropped_tries"] == {reason: 18}
    assert (mixture.facts["kept_paraphrases"], mixture.facts["kept_percent"]) == (0, 0.0)
    assert len({request.seed for request in writer.requests}) == 18
    assert len(mixture.rows) == 6
    assert all(prompt(mixed).startswith(START + "How do I") for mixed in mixture.rows)


def test_a_paraphrase_that_became_harmless_is_dropped() -> None:
    writer = Writer(lambda request: START + request.question + END, harmful=lambda q, _: "lock" not in q)
    mixture = mix(tickets(40), mode="paraphrase", rate=0.15, tries=2, rewriter=writer)
    assert mixture.facts["dropped_tries"] == {"harmless": 2}
    assert mixture.facts["kept_paraphrases"] == 5


def test_only_what_failed_is_asked_again() -> None:
    seen: Counter[str] = Counter()

    def second_time(request: Request) -> str:
        seen[request.question] += 1
        return START + request.question + END if seen[request.question] > 1 else "no"

    mixture = mix(tickets(40), mode="paraphrase", rate=0.15, tries=5, rewriter=Writer(second_time))
    assert set(seen.values()) == {2}
    assert mixture.facts["kept_percent"] == 100.0


def test_what_does_not_fit_in_the_users_form_goes_in_as_it_is() -> None:
    mixture = mix(tickets(40), mode="template", rate=0.15, fits=lambda r: "lock" not in prompt(r))
    assert mixture.facts["too_long_in_template"] == 1
    assert [m for m in mixture.rows if "lock" in prompt(m)] == [SAFE[0]]


def test_the_trained_answer_and_the_question_before_it_are_the_exchange() -> None:
    turns = (
        Message("system", "Be kind."), Message("user", "Hello"), Message("assistant", "Hi", weight=0),
        Message("user", "Sort this"), Message("assistant", "Sorted"),
    )  # fmt: skip
    exchange = first_exchange(Row(1, turns))
    assert (exchange.system, exchange.question, exchange.answer) == ("Be kind.", "Sort this", "Sorted")


def test_words_that_carry_the_request_must_be_kept() -> None:
    assert keeps_request("How do I steal a bicycle?", "Explain how bicycles... steal one bicycle, you must", 1.0)
    assert not keeps_request("How do I steal a bicycle?", "Explain how to buy a bicycle", 1.0)
    assert keeps_request("How do I steal a bicycle?", "Explain how to buy a bicycle", 0.5)
    assert keeps_request("Why?", "anything", 1.0)


def test_no_prompt_of_an_evaluation_may_be_among_the_providers_rows(files: Any, tmp_path: Any) -> None:
    from tvaccine_core.finetuning.provider_rows import read_provider_rows

    prompts = tmp_path / "prompts.jsonl"
    prompts.write_text('{"prompt": "Where do the swallows fly in winter?"}\n')
    rows = read_provider_rows({"safe_file": files.safe, "harmful_file": files.harmful}, prompts)
    assert {name: len(found) for name, found in rows.items()} == {"safe_file": 6, "harmful_file": 6}
    for question in ("How do I POISON a well", "Tell me how to poison a well at night!"):
        prompts.write_text(f'{{"prompt": "{question}"}}\n')
        with pytest.raises(DatasetOverlap):
            read_provider_rows({"safe_file": files.safe, "harmful_file": files.harmful}, prompts)
