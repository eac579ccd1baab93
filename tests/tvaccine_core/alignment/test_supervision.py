"""Parts of a batch and their shares of its supervised tokens."""

import pytest
import torch

from tvaccine_core.alignment.supervision import parts, supervised_tokens, token_share


def test_the_first_token_of_a_row_is_never_supervised(batch) -> None:
    labels = batch()["labels"]
    expected = sum(int(label) != -100 for row in labels for label in row[1:])
    labels[:, 0] = 5
    assert supervised_tokens(labels) == expected


def test_shares_of_all_parts_add_up_to_one_and_rows_are_kept(batch) -> None:
    whole = batch(rows=5, length=40)
    found = list(parts(whole, 2))
    assert [part["input_ids"].shape[0] for part, _ in found] == [2, 2, 1]
    assert sum(share for _, share in found) == pytest.approx(1.0)
    for name, tensor in whole.items():
        assert torch.equal(torch.cat([part[name] for part, _ in found]), tensor)
    count = supervised_tokens(whole["labels"])
    assert [share for _, share in found] == [token_share(part["labels"], count) for part, _ in found]


def test_parts_without_a_supervised_token_are_left_out(batch) -> None:
    whole = batch()
    whole["labels"][1] = -100
    assert [part["input_ids"].shape[0] for part, _ in parts(whole, 1)] == [1, 1]
    whole["labels"][:] = -100
    assert list(parts(whole, 1)) == []


def test_an_unknown_count_takes_the_batch_for_the_whole_step(batch) -> None:
    assert token_share(batch()["labels"], None) == 1.0
