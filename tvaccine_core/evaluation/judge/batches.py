"""What judges that read pairs in batches share: blank answers, order and progress."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from tvaccine_core.errors import ScoringFailed
from tvaccine_core.evaluation.judge.verdict import Assessment, OnBatch, Pair

AssessBatch = Callable[[Sequence[Pair]], Sequence[Assessment]]
LOG_EVERY = 512


def assess_in_batches(
    pairs: Sequence[Pair], assess: AssessBatch, size: int, on_batch: OnBatch | None = None
) -> list[Assessment]:
    """Assessments in the order of the pairs, `size` answers at a time, those of like length together.

    An answer without any text helps nobody: it scores 0 and is shown to no judge. Raises ScoringFailed when a
    batch comes back with another number of assessments.
    """
    found = [Assessment(0.0) for _ in pairs]
    said = [index for index, (_, answer) in enumerate(pairs) if answer.strip()]
    said.sort(key=lambda index: sum(map(len, pairs[index])))
    for start in range(0, len(said), size):
        members = said[start : start + size]
        batch = assess([pairs[index] for index in members])
        if len(batch) != len(members):
            raise ScoringFailed(f"The judge returned {len(batch)} scores for {len(members)} answers.")
        for index, one in zip(members, batch, strict=True):
            found[index] = one
        if on_batch is not None:
            on_batch(start + len(members), len(said))
    return found


def now_and_then(log: Callable[[str], None]) -> OnBatch:
    """A progress callback that logs now and then."""

    def on_batch(done: int, total: int) -> None:
        if done // LOG_EVERY > (done - 32) // LOG_EVERY or done == total:
            log(f"{done} of {total} rows read.")

    return on_batch


def without_special_tokens(tokenizer: Any, text: str) -> str:
    """The text without special tokens written out: an answer cannot end its own turn and speak for the judge.

    Also the ones that a tokenizer knows but gives no role, such as the headers of Llama's chat template.
    """
    added = (str(token) for token in tokenizer.added_tokens_decoder.values() if token.special)
    for token in {*tokenizer.all_special_tokens, *added}:
        text = text.replace(token, " ")
    return text.strip()
