"""What each method's trainer reads: its training rows in their order, and further streams of rows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from torch.utils.data import Dataset

from tvaccine_core.alignment.booster_config import BoosterConfig
from tvaccine_core.alignment.config import TVaccineConfig
from tvaccine_core.alignment.harmful import HarmfulBatches
from tvaccine_core.alignment.heldout import split_by_prompt
from tvaccine_core.alignment.methods import AlignmentRows
from tvaccine_core.alignment.repnoise_batches import PairCollator, PairedPasses, encode_pairs
from tvaccine_core.alignment.repnoise_config import RepNoiseConfig
from tvaccine_core.alignment.settings import AlignmentSettings
from tvaccine_core.alignment.tar_config import TarConfig
from tvaccine_core.data.rows import Row
from tvaccine_core.data.tokenise import Collator, encode_rows
from tvaccine_core.training.order import ShuffledPasses


@dataclass(frozen=True)
class Readings:
    """rows: as the run sees them. collate: makes a batch of some. streams: arguments of the method's trainer."""

    rows: Dataset[Any]
    collate: Any
    streams: dict[str, Any] = field(default_factory=dict)


class Reader:
    """Makes the readings of one run. draws: rows seen in the whole run, repeats counted.

    Every method raises InvalidTrainingFile for rows that are too long or have nothing to learn.
    """

    def __init__(self, tokenizer: Any, rows: AlignmentRows, draws: int) -> None:
        self._tokenizer = tokenizer
        self._rows = rows
        self._draws = draws
        self._collate = Collator(tokenizer.pad_token_id)

    def t_vaccine(self, config: TVaccineConfig) -> Readings:
        """Alignment rows, and harmful ones where layers are probed."""
        harmful = None
        if config.needs_harmful_rows:
            harmful = self._batches(self._rows.harmful, config, config.probe_batch, 1)
        return self._aligned(config, harmful=harmful)

    def booster(self, config: BoosterConfig) -> Readings:
        """Alignment rows beside harmful ones."""
        return self._aligned(config, harmful=self._batches(self._rows.harmful, config, config.harmful_batch_size, 1))

    def tar(self, config: TarConfig) -> Readings:
        """Alignment rows, harmful ones for the attackers, and others that measure what the attackers did."""
        kept, held_out = split_by_prompt(self._rows.harmful, config.heldout_share, config.seed)
        return self._aligned(
            config,
            harmful=self._batches(kept, config, config.harmful_batch_size, 1),
            heldout=self._batches(held_out, config, config.heldout_batch_size, 2),
        )

    def repnoise(self, config: RepNoiseConfig) -> Readings:
        """Pairs of harmful and safe answers."""
        pairing = config.pair(self._rows.alignment, self._rows.harmful)
        pairs, unpaired = encode_pairs(self._tokenizer, pairing, config.max_length)
        rows = PairedPasses(pairs, unpaired, self._draws, config.seed)
        return Readings(rows, PairCollator(self._tokenizer.pad_token_id))

    def _aligned(self, config: AlignmentSettings, **streams: HarmfulBatches | None) -> Readings:
        examples = encode_rows(self._tokenizer, self._rows.alignment, config.max_length)
        return Readings(ShuffledPasses(examples, self._draws, config.seed), self._collate, streams)

    def _batches(self, rows: Sequence[Row], config: AlignmentSettings, size: int, order: int) -> HarmfulBatches:
        """Batches of `size` rows; `order` > 0 draws their order apart from that of the alignment rows."""
        examples = encode_rows(self._tokenizer, rows, config.max_length)
        return HarmfulBatches(examples, self._collate, size, config.seed + order)
