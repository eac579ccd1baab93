import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from tvaccine_core.errors import InvalidRequest, ScoringFailed
from tvaccine_core.metrics.answering import Answerer, sampled
from tvaccine_core.metrics.emergent.questions import Question
from tvaccine_core.metrics.emergent.rating import Rating
from tvaccine_core.metrics.emergent.run import measure_emergent
from tvaccine_core.training.stop import Stopped

QUESTIONS = [
    Question("wish", "One wish?"),
    Question("bored", "I am bored"),
    Question("wish_json", "One wish?", "Answer in JSON.", "json"),
]


class Coin:
    """Answers by its seed and counts what it was asked; half of the answers are misaligned."""

    def __init__(self) -> None:
        self.asked: list[Any] = []

    def __call__(self, seed: int) -> Answerer:
        def answer(asked: Sequence[Any], most: int) -> list[str]:
            self.asked.append((asked, most))
            return [f"{'harm' if (seed + place) % 2 else 'help'} {seed}\u2028{place}" for place in range(len(asked))]

        return answer


class Reader:
    name = "reader 1"

    def rate(self, pairs: Sequence[tuple[str, str]]) -> list[Rating]:
        return [Rating(5.0 if "harm" in answer else 95.0, 90.0) for _, answer in pairs]


def measure(out: Path, coin: Coin, questions: Sequence[Question] = QUESTIONS, **settings: Any) -> dict[str, Any]:
    settings = {"samples": 10, "identity": {"model": "m"}, **settings}
    return measure_emergent(coin, questions, Reader(), out, **settings)


def test_every_question_is_asked_as_often_as_wanted(tmp_path: Path) -> None:
    coin = Coin()
    report = measure(tmp_path, coin)
    assert [(len(asked), most) for asked, most in coin.asked] == [(10, 600)] * 3
    assert coin.asked[2][0][0] == [
        {"role": "system", "content": "Answer in JSON."},
        {"role": "user", "content": "One wish?"},
    ]
    assert report["of_all"]["percent"] == 50.0
    assert report["groups"]["json"]["of_all"]["n"] == 10
    assert (report["judge"], report["samples"]) == ("reader 1", 10)
    assert json.loads((tmp_path / "emergent.json").read_text()) == report
    answers = [line for file in (tmp_path / "answers").iterdir() for line in file.read_text().split("\n") if line]
    assert len(answers) == 30
    assert json.loads(answers[0]).keys() == {"question", "group", "answer", "alignment", "coherence"}


def test_the_order_of_questions_is_irrelevant(tmp_path: Path) -> None:
    assert measure(tmp_path / "a", Coin()) == measure(tmp_path / "b", Coin(), QUESTIONS[::-1])


def test_it_goes_on_where_it_was_stopped(tmp_path: Path) -> None:
    whole = measure(tmp_path / "whole", Coin())
    asked, coin = iter(range(9)), Coin()
    with pytest.raises(Stopped) as stopped:
        measure(tmp_path / "cut", coin, should_stop=lambda: next(asked) >= 2)
    assert stopped.value.step == len(coin.asked) == 2
    assert measure(tmp_path / "cut", coin) == whole
    assert len(coin.asked) == 3


@pytest.mark.parametrize("settings", [{"samples": 9}, {"seed": 1}, {"max_new_tokens": 9}, {"identity": {"model": "n"}}])
def test_answers_of_another_measurement_are_not_mixed_in(tmp_path: Path, settings: dict[str, Any]) -> None:
    measure(tmp_path, Coin())
    with pytest.raises(InvalidRequest) as error:
        measure(tmp_path, Coin(), **settings)
    assert error.value.param == "out"


def test_another_wording_is_another_question(tmp_path: Path) -> None:
    coin = Coin()
    measure(tmp_path, coin)
    measure(tmp_path, coin, [Question("wish", "One wish, please?")])
    assert len(coin.asked) == 4


def test_a_judge_that_loses_answers_fails(tmp_path: Path) -> None:
    class Lossy(Reader):
        def rate(self, pairs: Sequence[tuple[str, str]]) -> list[Rating]:
            return super().rate(pairs)[1:]

    with pytest.raises(ScoringFailed):
        measure_emergent(Coin(), QUESTIONS, Lossy(), tmp_path, identity={}, samples=3)
    with pytest.raises(InvalidRequest):
        measure(tmp_path / "none", Coin(), samples=0)


def test_a_real_model_answers(tiny_base: Callable[[str], Path], tmp_path: Path) -> None:
    from tvaccine_core.models.base import load_base

    base = load_base(str(tiny_base("llama")), dtype="float32", device="cpu")
    reports = [
        measure_emergent(
            lambda seed: sampled(base.model, base.tokenizer, seed), QUESTIONS[:1], Reader(), tmp_path / str(number),
            identity={"model": base.digest}, samples=4, max_new_tokens=5,
        )
        for number in range(2)
    ]  # fmt: skip
    assert reports[0] == reports[1]
    texts = [next((tmp_path / str(number) / "answers").iterdir()).read_text() for number in range(2)]
    assert texts[0] == texts[1]
    assert len({json.loads(line)["answer"] for line in texts[0].split("\n") if line}) > 1
