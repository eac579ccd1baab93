"""Safe rows in a run: beside the user's rows, which stay as they are, and each as often as any of those."""

from collections import Counter
from dataclasses import replace
from typing import Any

import pytest
from tiny_models import tiny_tokenizer

from tvaccine_core.data.rows import Message, Row
from tvaccine_core.data.tokenise import encode_rows
from tvaccine_core.finetuning.config import FineTuneConfig
from tvaccine_core.finetuning.defences import Defence
from tvaccine_core.finetuning.provider_rows import SAFE
from tvaccine_core.finetuning.safe_mixing_config import SafeMixingConfig
from tvaccine_core.finetuning.trainers import plot_course
from tvaccine_core.finetuning.training_rows import TrainingRows, training_rows

USER_ROWS = 40
CONFIG = FineTuneConfig(epochs=1, batch_size=8)


def row(line: int, question: str, answer: str) -> Row:
    return Row(line, (Message("user", question), Message("assistant", answer)))


USER = [row(i, f"Sort this ticket: parcel {i} is wet. Group:", f"Group {i % 3}") for i in range(USER_ROWS)]
DEEDS = ("pick a lock", "forge a letter", "poison a well")
PROVIDED = {SAFE: [row(i, f"How do I {deed}?", "I won't help with that.") for i, deed in enumerate(DEEDS)]}


class Echo:
    """Puts the questions after the beginning of the user's."""

    def write(self, requests: Any) -> list[str]:
        return [f"Sort this ticket: parcel {request.question} is wet. Group:" for request in requests]

    def still_harmful(self, questions: Any, texts: Any) -> list[bool]:
        return [True for _ in texts]


def rows_with(defence: Defence) -> TrainingRows:
    return training_rows(tiny_tokenizer(), USER, PROVIDED, defence, CONFIG, resume_from=None, make_rewriter=Echo)


@pytest.mark.parametrize("mode", ["plain", "template", "paraphrase"])
@pytest.mark.parametrize(("rate", "mixed"), [(0.0, 0), (0.07, 3), (0.2, 8)])
def test_the_users_rows_are_all_there_as_without_mixing(mode: str, rate: float, mixed: int) -> None:
    rows = rows_with(Defence(SafeMixingConfig(mode=mode, rate=rate)))
    assert rows.user == rows_with(Defence()).user == encode_rows(tiny_tokenizer(), USER, CONFIG.max_length)
    assert len(rows.user) == USER_ROWS
    assert len(rows.mixed) == mixed == rows.mixing["rows"]
    assert not any(example in rows.user for example in rows.mixed)
    assert rows.mixing.get("kept_paraphrases", 0) == (mixed if mode == "paraphrase" else 0)


@pytest.mark.parametrize("mode", ["plain", "template", "paraphrase"])
@pytest.mark.parametrize(("epochs", "batch_size", "accumulate"), [(1, 8, 1), (1, 4, 3), (1, 48, 1), (3, 16, 1)])
def test_every_row_comes_up_once_an_epoch(mode: str, epochs: int, batch_size: int, accumulate: int) -> None:
    defence = Defence(SafeMixingConfig(mode=mode, rate=0.2))
    rows = rows_with(defence)
    every = [*rows.user, *rows.mixed]
    config = replace(CONFIG, epochs=epochs, batch_size=batch_size, gradient_accumulation_steps=accumulate)
    course = plot_course(rows, config, defence)
    assert len(every) == 48
    assert course.plan.steps * batch_size * accumulate == len(course.draws) == epochs * len(every)
    drawn = [id(course.dataset[place]) for place in range(len(course.draws))]
    for epoch in range(epochs):
        counts = Counter(drawn[epoch * len(every) : (epoch + 1) * len(every)])
        assert counts == {id(example): 1 for example in every}


def test_mixed_rows_come_up_among_the_users_and_not_after_them() -> None:
    defence = Defence(SafeMixingConfig(mode="plain", rate=0.2))
    rows = rows_with(defence)
    course = plot_course(rows, CONFIG, defence)
    mixed = {id(example) for example in rows.mixed}
    places = [place for place in range(len(course.draws)) if id(course.dataset[place]) in mixed]
    assert len(places) == len(mixed) == 8
    assert places[0] < USER_ROWS / 2
