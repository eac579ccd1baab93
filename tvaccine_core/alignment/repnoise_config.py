"""The settings of a RepNoise run. Torch-free."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from tvaccine_core.alignment.repnoise_pairs import Pairing, pair_rows
from tvaccine_core.alignment.settings import AlignmentSettings, choice, number, text, whole
from tvaccine_core.data.rows import Row


@dataclass(frozen=True, kw_only=True)
class RepNoiseConfig(AlignmentSettings):
    """Settings of Representation Noising (arXiv 2405.14577); what all methods share is in AlignmentSettings.

    alpha: weight of the ascent term log L_harm, 0..1e4. Published: 1 (full fine-tuning), 0.1 and 0.02 (LoRA). Too
        much of it ruins the model's language: look at perplexity or coherence, not at refusals alone.
    beta: weight of the noise term, 0..1e4. Published: 0.001, and 0.1.
    batch_size: pairs of a micro-batch, at least 2: the noise term compares distributions over them. As many alignment
        rows without a harmful partner, if there are any, join the stability term.
    unpaired: harmful rows whose prompt no alignment row has: "refuse" gives them `refusal_text` as their safe answer,
        "drop" leaves them out.
    refusal_text: see there; 1 to 2000 characters.
    masking: where the two answers have the same token nothing is learned. "labels" masks the tokens to learn.
        "published" also blanks the logits at masked positions, so that the first differing token of an answer never
        trains: only to reproduce the published code.
    """

    method: str = choice("repnoise", ("repnoise",))
    batch_size: int = whole(4, 2)
    alpha: float = number(0.1, 0.0, 1e4)
    beta: float = number(0.001, 0.0, 1e4)
    unpaired: str = choice("refuse", ("refuse", "drop"))
    refusal_text: str = text("I'm sorry, but I can't help with that.", 2000)
    masking: str = choice("labels", ("labels", "published"))

    def pair(self, alignment: Sequence[Row], harmful: Sequence[Row]) -> Pairing:
        """What this run trains on. Raises InvalidRequest if there are no pairs."""
        return pair_rows(alignment, harmful, self.refusal_text if self.unpaired == "refuse" else None)

    def check_rows(self, alignment: Sequence[Row], harmful: Sequence[Row]) -> None:
        """See AlignmentSettings."""
        self.pair(alignment, harmful)
