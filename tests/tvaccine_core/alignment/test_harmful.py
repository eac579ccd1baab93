from tvaccine_core.alignment.harmful import HarmfulBatches
from tvaccine_core.data.tokenise import Collator, Example

ROWS = [Example([i, i, i], [-100, i, i]) for i in range(1, 8)]


def rows_of(batch):
    return [int(row[0]) for row in batch["input_ids"]]


def test_every_row_before_any_comes_again():
    batches = HarmfulBatches(ROWS, Collator(0), 3, seed=1)
    seen = [row for _ in range(7) for row in rows_of(batches.next())]
    for start in range(0, 21, 7):
        assert sorted(seen[start : start + 7]) == list(range(1, 8))
    assert seen[:7] != seen[7:14]


def test_setting_taken_resumes_the_sequence():
    batches, resumed = (HarmfulBatches(ROWS, Collator(0), 4, seed=2) for _ in range(2))
    for _ in range(3):
        batches.next()
    resumed.taken = batches.taken
    assert [rows_of(batches.next()) for _ in range(4)] == [rows_of(resumed.next()) for _ in range(4)]


def test_a_batch_is_never_larger_than_the_set():
    assert sorted(rows_of(HarmfulBatches(ROWS[:2], Collator(0), 8, seed=0).next())) == [1, 2]
