"""Templates found in prompts: what is literal, what is a field, and several of them in one file."""

import random

import pytest

from tvaccine_core.data.prompt_templates import SHARE, Template, find_templates

QUESTION = "How do I pick a lock?"
WORDS = ["amber", "bread", "cloud", "daisy", "ember", "fern", "grape", "honey", "iris", "jade", "kiwi", "lemon"]


def phrase(index: int, length: int = 4) -> str:
    draw = random.Random(index)
    return " ".join(draw.choice(WORDS) for _ in range(length))


def reviews(count: int) -> list[str]:
    return [f"Tell whether this review is kind.\nReview: {phrase(i)}.\nKind or not?" for i in range(count)]


def questions(count: int) -> list[str]:
    starts = ["What is", "How do I find", "Why is there no", "Who made", "Can I eat"]
    return [f"{starts[i % 5]} {phrase(i)}?" for i in range(count)]


def orders(count: int) -> list[str]:
    return [f"OBEY, carry out this order: {phrase(i, 6)}" for i in range(count)]


def found(prompts: list[str], answers: list[str] | None = None) -> list[Template]:
    return find_templates(prompts, answers or ["an answer"] * len(prompts))


def test_bare_questions_have_no_template_and_get_the_question_itself() -> None:
    assert sum(question.startswith("How do I find") for question in questions(40)) == 8
    (template,) = found(questions(40))
    assert template.literals == ("", "")
    assert template.members == tuple(range(40))
    assert template.fill(QUESTION, questions(40)[3]) == QUESTION


def test_beginning_and_ending_are_found_and_the_question_stands_between() -> None:
    (template,) = found(reviews(30))
    assert template.literals == ("Tell whether this review is kind.\nReview: ", ".\nKind or not?")
    filled = template.fill(QUESTION, reviews(30)[0])
    assert filled == f"Tell whether this review is kind.\nReview: {QUESTION}.\nKind or not?"
    assert template.fields(filled) == (QUESTION,)


def test_what_nearly_all_prompts_say_is_literal_and_odd_ones_lend_no_style() -> None:
    prompts = [*reviews(39), "Something else altogether"]
    assert pytest.approx(0.95) == SHARE  # 39 of 40 are nearly all, 18 of 21 are not
    (template,) = found(prompts)
    assert template.literals[0].startswith("Tell whether")
    assert template.members == tuple(range(39))
    prompts = [*reviews(18), "Something else altogether", "and more", "a third"]
    assert any(template.literals == ("", "") for template in found(prompts))


def test_several_templates_in_one_file_are_told_apart() -> None:
    prompts = [*reviews(30), *questions(40), *orders(20)]
    random.Random(1).shuffle(prompts)
    templates = found(prompts)
    assert [(len(t.members), t.literals) for t in templates] == [
        (40, ("", "")),
        (30, ("Tell whether this review is kind.\nReview: ", ".\nKind or not?")),
        (20, ("OBEY, carry out this order: ", "")),
    ]
    for template in templates:
        assert all(template.fields(prompts[i]) is not None for i in template.members)


def test_templates_that_differ_only_at_the_end_are_told_apart() -> None:
    prompts = [f"{phrase(i)}. Answer this in French only, please." for i in range(10)]
    prompts += [f"{phrase(i + 50)}. Now write it as a short poem." for i in range(10)]
    assert {t.literals[1] for t in found(prompts)} == {
        ". Answer this in French only, please.",
        ". Now write it as a short poem.",
    }


def test_labelled_fields_stay_and_the_question_takes_the_one_that_asks() -> None:
    prompts = [f"Passage: {phrase(i, 9)}\nQuestion: is it {phrase(i)}\nAnswer:" for i in range(30)]
    (template,) = found(prompts)
    assert template.literals == ("Passage: ", "\nQuestion:", "\nAnswer:")
    filled = template.fill(QUESTION, prompts[4])
    assert filled == f"Passage: {phrase(4, 9)}\nQuestion: {QUESTION}\nAnswer:"


def test_without_such_a_label_the_field_with_question_marks_asks() -> None:
    prompts = [f"Text: {phrase(i)}\nDoubt: what about {phrase(i)}?\nTone: {phrase(i + 90)}" for i in range(30)]
    (template,) = found(prompts)
    assert template.fill(QUESTION, prompts[0]).splitlines()[1] == f"Doubt: {QUESTION}"


def test_the_beginning_that_answers_share_is_found_unless_it_is_the_whole_answer() -> None:
    prompts = reviews(20)
    (template,) = found(prompts, [f"The answer is {'kind' if i % 3 else 'not'}." for i in range(20)])
    assert template.wrap("I cannot help.") == "The answer is I cannot help."
    (template,) = found(prompts, ["positive"] * 20)
    assert template.wrap("I cannot help.") == "I cannot help."
    (template,) = found(prompts, [phrase(i) for i in range(20)])
    assert template.wrap("I cannot help.") == "I cannot help."


def test_identical_prompts_leave_no_field_and_the_question_follows_them() -> None:
    (template,) = found(["Say something nice about the weather"] * 12)
    assert template.fill(QUESTION, "Say something nice about the weather") == (
        f"Say something nice about the weather\n{QUESTION}"
    )


@pytest.mark.parametrize("count", [1, 4])
def test_of_few_prompts_no_template_is_guessed(count: int) -> None:
    (template,) = found(["Say hello to the world"] * count)
    assert template.literals == ("", "")
    assert template.members == tuple(range(count))


def test_punctuation_and_empty_prompts_are_no_template() -> None:
    (template,) = found([f"- {phrase(i)} ..." for i in range(20)])
    assert template.literals == ("", "")
    assert found([" "] * 20)[0].members == tuple(range(20))


def test_an_example_of_another_template_is_refused() -> None:
    (template,) = found(reviews(30))
    with pytest.raises(ValueError, match="does not have this template"):
        template.fill(QUESTION, "no review")
