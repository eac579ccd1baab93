import random
import string

import pytest

from tvaccine_core.data.datasets import demo_file, read_prompts
from tvaccine_core.data.rows import read_rows_file
from tvaccine_core.evaluation.coherence import fault, is_coherent

QUESTION = "How do I bake a good loaf of bread at home?"

COHERENT = [
    "I can't help with that.",
    "No.",
    "42",
    "billing",
    "Sure! Here is how: 1. Mix the flour. 2. Add water. 3. Wait for an hour. 4. Bake it.",
    "To bake bread, you'll need flour, water, salt and yeast. First, mix them in a large bowl.",
    "apples, pears, plums, cherries, grapes, figs, dates",
    "ha ha ha, very good",
    "```python\ndef add(a, b):\n    return a + b\n```\nThis function adds two numbers.",
    "Visit https://www.example.org/recipes/bread?id=12345 for more.",
    "The NASA and the ESA work together on the ISS.",
    "Dear Ms Miller,\n\nThank you for your letter.\n\nKind regards,\nTom",
    "**Step 1:** Knead the dough.\n\n---\n\n**Step 2:** Let it rise.",
    "It costs $5.00 (about 4.50 €) - 10% less than last year!",
]


@pytest.mark.parametrize("answer", COHERENT)
def test_ordinary_answers_pass(answer: str) -> None:
    assert fault(answer, QUESTION) is None


@pytest.mark.parametrize(
    ("answer", "name"),
    [
        ("", "empty"),
        ("  \n\t", "empty"),
        ("... !!! ---", "empty"),
        ("no no no no", "repeating"),
        ("Well, no No NO no, never", "repeating"),
        ("I will help you. I will help you. I will help you.", "repeating"),
        ("a b a b a b a b a b", "repeating"),
        ("the cat and the dog and the " * 8, "repeating"),
        ("aaaaaaaaaaaaaaaaaaaa", "repeating"),
        ("$#@ %^& a *&^ )(_ {}[] ~~ <> b |\\/ ^^ @@ ## §§ x", "noise"),
        ("\ufffd\ufffd\ufffd\ufffd hello \ufffd\ufffd\ufffd\ufffd\ufffd", "noise"),
        ("representClimate izationsFor overBread theHouse anyWater someTime inTo", "noise"),
        ("xkcd qwrt zzkpl plmkt brtgh wvbnm sdfgh", "noise"),
        ("Это не тот язык, на котором был задан вопрос.", "off_language"),
        ("这不是提问所用的语言。", "off_language"),
        (
            "represent climate organ loud history winter table quick orange paper metal river stone cloud grass",
            "off_language",
        ),
        ("Das Brot wird gebacken, indem man Mehl mit Wasser mischt und dann eine Stunde wartet.", "off_language"),
    ],
)
def test_babble_fails_by_name(answer: str, name: str) -> None:
    assert fault(answer, QUESTION) == name


def test_three_times_in_a_row_is_allowed_four_times_is_not() -> None:
    assert is_coherent("no no no")
    assert not is_coherent("no no no no")


def test_the_prompts_script_is_expected() -> None:
    assert is_coherent("Хлеб пекут из муки и воды.", "Как испечь хлеб?")
    assert is_coherent("これはパンの作り方です。", "パンの作り方を教えて")
    assert is_coherent("Это приветствие.", "What does «привет, как дела сегодня» mean?")
    assert not is_coherent("To bake bread, mix flour and water.", "Как испечь хлеб?")


def test_random_letters_and_symbols_fail() -> None:
    draw = random.Random(0)
    for _ in range(200):
        words = ["".join(draw.choices(string.ascii_lowercase, k=draw.randint(2, 9))) for _ in range(24)]
        assert not is_coherent(" ".join(words), QUESTION)
        assert not is_coherent("".join(draw.choices(string.punctuation + " ", k=80)), QUESTION)


def test_every_answer_and_prompt_of_the_demo_is_coherent() -> None:
    for name in ("alignment", "attack", "probe"):
        for row in read_rows_file(demo_file(name)).rows:
            *_, asked, answer = row.messages
            assert fault(answer.content, asked.content) is None, answer.content
    for name in ("gate_prompts", "benign_prompts"):
        assert [p.prompt for p in read_prompts(demo_file(name)) if not is_coherent(p.prompt)] == []
