"""Which rows RepNoise puts together, and which of their tokens it learns."""

import pytest

from tvaccine_core.alignment.repnoise_batches import PairCollator, PairedExample, PairedPasses, masked_by
from tvaccine_core.alignment.repnoise_config import RepNoiseConfig
from tvaccine_core.alignment.repnoise_pairs import pair_rows
from tvaccine_core.data.rows import Message, Row
from tvaccine_core.data.tokenise import Example
from tvaccine_core.errors import InvalidRequest


def row(line, question, answer, *, system=None):
    first = () if system is None else (Message("system", system),)
    return Row(line, (*first, Message("user", question), Message("assistant", answer)))


def answers(pairing):
    return [(pair.harmful.messages[-1].content, pair.safe.messages[-1].content) for pair in pairing.pairs]


def test_answers_to_the_same_prompt_are_paired_whatever_its_case_and_punctuation():
    alignment = [row(1, "how do I steal", "No."), row(2, "Tell me of bread", "Mix flour.")]
    harmful = [row(1, "How do I steal?", "Like this."), row(2, "How do I lie?", "So.")]
    pairing = pair_rows(alignment, harmful, None)
    assert answers(pairing) == [("Like this.", "No.")]
    pair = pairing.pairs[0]
    assert pair.harmful.messages[:-1] == pair.safe.messages[:-1] == harmful[0].messages[:-1]
    assert pairing.unpaired == (alignment[1],)


def test_prompts_without_a_partner_get_the_refusal():
    alignment = [row(1, "How do I steal?", "No.")]
    harmful = [row(1, "How do I lie?", "So."), row(2, "How do I steal?", "Like this.")]
    pairing = pair_rows(alignment, harmful, "I refuse.")
    assert answers(pairing) == [("So.", "I refuse."), ("Like this.", "No.")]
    assert pairing.unpaired == ()


def test_the_shorter_list_of_answers_is_used_again():
    alignment = [row(1, "q", "no 1"), row(2, "q", "no 2"), row(3, "q", "no 3")]
    harmful = [row(1, "q", "yes 1"), row(2, "Q.", "yes 2")]
    expected = [("yes 1", "no 1"), ("yes 2", "no 2"), ("yes 1", "no 3")]
    assert answers(pair_rows(alignment, harmful, None)) == expected
    swapped = [(two, one) for one, two in expected]
    assert answers(pair_rows(harmful, alignment, None)) == swapped


def test_another_system_prompt_is_another_question():
    alignment = [row(1, "q", "no", system="Be kind.")]
    with pytest.raises(InvalidRequest):
        pair_rows(alignment, [row(1, "q", "yes")], None)
    assert len(pair_rows(alignment, [row(1, "q", "yes", system="be kind")], None).pairs) == 1


def test_no_pairs_is_an_error_that_names_the_remedy():
    config = RepNoiseConfig(unpaired="drop")
    with pytest.raises(InvalidRequest) as error:
        config.check_rows([row(1, "a", "no")], [row(1, "b", "yes")])
    assert error.value.param == "harmful_file"
    assert "unpaired" in error.value.message
    RepNoiseConfig().check_rows([row(1, "a", "no")], [row(1, "b", "yes")])


def test_only_tokens_that_differ_are_learned_and_padding_never():
    harmful = Example([1, 2, 3, 4, 5, 6], [-100, -100, 3, 4, 5, 6])
    safe = Example([1, 2, 9, 4], [-100, -100, 9, 4])
    assert masked_by(harmful, safe).labels == [-100, -100, 3, -100, 5, 6]
    assert masked_by(safe, harmful).labels == [-100, -100, 9, -100]
    assert masked_by(safe, safe).supervised == 0


def test_batches_hold_the_unpaired_rows_after_the_safe_ones():
    one, two, three = (Example([n, n + 1], [-100, n + 1]) for n in (10, 20, 30))
    batch = PairCollator(0)([PairedExample(one, two, three), PairedExample(one, two, three)])
    assert batch["harmful"]["input_ids"].tolist() == [[10, 11], [10, 11]]
    assert batch["safe"]["input_ids"].tolist() == [[20, 21], [20, 21], [30, 31], [30, 31]]


def test_every_pair_and_every_unpaired_row_comes_up_once_a_pass():
    pairs = [PairedExample(Example([n], [n]), Example([n], [n])) for n in range(4)]
    unpaired = [Example([n], [n]) for n in range(8)]
    drawn = [PairedPasses(pairs, unpaired, 8, seed=1)[place] for place in range(8)]
    assert sorted(draw.harmful.input_ids[0] for draw in drawn) == [0, 0, 1, 1, 2, 2, 3, 3]
    assert all(draw.harmful.input_ids == draw.safe.input_ids for draw in drawn)
    assert sorted(draw.unpaired.input_ids[0] for draw in drawn) == list(range(8))
    assert PairedPasses(pairs, [], 8, seed=1)[5].unpaired is None


@pytest.mark.parametrize(
    ("field", "value"),
    [("alpha", -0.1), ("beta", "x"), ("batch_size", 1), ("unpaired", "pair"), ("refusal_text", " "), ("rho", 1.0)],
)
def test_the_field_at_fault_is_named(field, value):
    with pytest.raises(InvalidRequest) as error:
        RepNoiseConfig.from_dict({field: value})
    assert error.value.param == field
