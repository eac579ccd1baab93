import pytest
import torch

from tvaccine_core.alignment.batch import gather_positions, is_right_padded, supervised_batch


def test_positions_predict_the_targets(batch):
    inputs = batch(rows=3, length=18)
    reduced = supervised_batch(inputs)
    flat = [(int(p) // reduced.input_ids.shape[1], int(p) % reduced.input_ids.shape[1]) for p in reduced.positions]
    assert [int(inputs["labels"][row, column + 1]) for row, column in flat] == reduced.targets.tolist()
    assert reduced.targets.numel() == int((inputs["labels"][:, 1:] != -100).sum())
    assert reduced.tokens == reduced.input_ids.numel()


def test_trims_to_the_last_prediction_and_drops_a_useless_mask():
    ids = torch.arange(2 * 40).reshape(2, 40)
    labels = torch.full_like(ids, -100)
    labels[0, 9:17] = 5  # position 15 predicts the last one
    labels[1, 3] = 6
    mask = torch.ones_like(ids)
    mask[1, 20:] = 0
    reduced = supervised_batch({"input_ids": ids, "labels": labels, "attention_mask": mask})
    assert reduced.input_ids.shape == (2, 16)
    assert reduced.attention_mask is None
    assert reduced.positions.tolist() == [*range(8, 16), 16 + 2]
    left = mask.flip(1)
    kept = supervised_batch({"input_ids": ids, "labels": labels, "attention_mask": left}).attention_mask
    assert torch.equal(kept, left[:, :16])


def test_first_label_is_predicted_by_nothing():
    ids = torch.arange(6).reshape(1, 6)
    labels = torch.tensor([[0, -100, -100, -100, -100, -100]])
    with pytest.raises(ValueError, match="supervised"):
        supervised_batch({"input_ids": ids, "labels": labels})


def test_split_keeps_every_target(batch):
    whole = supervised_batch(batch(rows=3))
    parts = whole.split(2)
    assert [len(part.input_ids) for part in parts] == [2, 1]
    assert torch.equal(torch.cat([part.targets for part in parts]), whole.targets)
    rows = torch.cat([part.input_ids.reshape(-1)[part.positions] for part in parts])
    assert torch.equal(rows, whole.input_ids.reshape(-1)[whole.positions])


@pytest.mark.parametrize(
    ("mask", "answer"),
    [
        ([[1, 1, 1]], True),
        ([[1, 1, 0], [1, 0, 0]], True),
        ([[0, 1, 1]], False),
        ([[1, 0, 1]], False),
        ([[0, 0]], False),
    ],
)
def test_right_padding(mask, answer):
    assert is_right_padded(torch.tensor(mask)) is answer


def test_gather_positions():
    hidden = torch.arange(24.0).reshape(2, 3, 4)
    assert torch.equal(gather_positions(hidden, torch.tensor([1, 5])), hidden[[0, 1], [1, 2]].unsqueeze(0))
