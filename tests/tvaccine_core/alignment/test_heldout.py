import pytest

from tvaccine_core.alignment.heldout import split_by_prompt
from tvaccine_core.data.rows import Message, Row
from tvaccine_core.errors import InvalidRequest


def rows(questions):
    return [Row(n, (Message("user", q), Message("assistant", f"a{n}"))) for n, q in enumerate(questions, start=1)]


def questions(found):
    return {row.messages[0].content.strip("?").lower() for row in found}


@pytest.mark.parametrize(("share", "held"), [(0.2, 2), (0.5, 5), (0.01, 1)])
def test_rows_of_one_prompt_stay_together(share, held):
    every = rows([f"q {n % 10}?" if n < 10 else f"Q {n % 10}" for n in range(20)])
    kept, out = split_by_prompt(every, share, seed=3)
    assert (len(out), len(kept)) == (2 * held, 20 - 2 * held)
    assert not questions(kept) & questions(out)
    assert [row.line for row in kept] == sorted(row.line for row in kept)
    assert split_by_prompt(every, share, seed=3) == (kept, out)


def test_the_seed_decides():
    every = rows([f"q {n}" for n in range(30)])
    splits = {tuple(row.line for row in split_by_prompt(every, 0.2, seed=seed)[1]) for seed in range(5)}
    assert len(splits) > 1


def test_one_prompt_cannot_be_split():
    with pytest.raises(InvalidRequest) as error:
        split_by_prompt(rows(["q", "Q?"]), 0.5, seed=0)
    assert error.value.param == "harmful_file"
