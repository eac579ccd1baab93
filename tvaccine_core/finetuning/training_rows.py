"""All rows of a fine-tuning run, tokenised, and the file of those mixed in, which every checkpoint keeps."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tvaccine_core.data.row_forms import judge_row
from tvaccine_core.data.rows import Row
from tvaccine_core.data.tokenise import Example, encode_rows
from tvaccine_core.errors import InvalidTrainingFile
from tvaccine_core.finetuning.config import FineTuneConfig
from tvaccine_core.finetuning.defences import Defence
from tvaccine_core.finetuning.lisa_config import LisaConfig
from tvaccine_core.finetuning.provider_rows import HARMFUL, SAFE, encode_provider_rows
from tvaccine_core.finetuning.rewriting import Rewriter
from tvaccine_core.finetuning.safe_mixing import Mixture, mix_safe_rows

MIXTURE_FILE = "mixture.json"


@dataclass(frozen=True)
class TrainingRows:
    """user: the user's rows. mixed: safe rows that go among them. safe: rows of Lisa's alignment steps. harmful: rows
    of Panacea's gradients. mixing: what a report says of the mixed ones. kept_files: see DefendedTrainer."""

    user: list[Example]
    mixed: list[Example] = field(default_factory=list)
    safe: list[Example] = field(default_factory=list)
    harmful: list[Example] = field(default_factory=list)
    mixing: dict[str, Any] = field(default_factory=dict)
    kept_files: dict[str, str] = field(default_factory=dict)


def training_rows(
    tokenizer: Any,
    user: Sequence[Row],
    provider: Mapping[str, Sequence[Row]],
    defence: Defence,
    config: FineTuneConfig,
    *,
    resume_from: Path | None,
    make_rewriter: Callable[[], Rewriter | None],
) -> TrainingRows:
    """Tokenises the user's rows and what the defences add to them.

    provider: rows by parameter, as `read_provider_rows` gives them. resume_from: a checkpoint whose mixture is taken
    over. make_rewriter: called if questions are to be rewritten. Raises InvalidTrainingFile.
    """
    encoded = encode_rows(tokenizer, user, config.max_length)
    safe: list[Example] = []
    if isinstance(defence.rule, LisaConfig) and defence.rule.needs_safe_rows:
        safe = encode_provider_rows(tokenizer, SAFE, provider[SAFE], config.max_length)
    harmful: list[Example] = []
    if defence.needs_harmful_rows:
        harmful = encode_provider_rows(tokenizer, HARMFUL, provider[HARMFUL], config.max_length)
    if defence.mixing is None:
        return TrainingRows(encoded, safe=safe, harmful=harmful)
    mixture = _kept_mixture(resume_from)
    if mixture is None:
        mixture = mix_safe_rows(
            user,
            provider.get(SAFE, ()),
            defence.mixing,
            config.seed,
            fits=lambda row: _fits(tokenizer, row, config.max_length),
            rewriter=make_rewriter(),
        )
    mixed = encode_provider_rows(tokenizer, SAFE, mixture.rows, config.max_length)
    return TrainingRows(encoded, mixed, safe, harmful, mixture.facts, {MIXTURE_FILE: _as_text(mixture)})


def _fits(tokenizer: Any, row: Row, max_length: int) -> bool:
    try:
        encode_rows(tokenizer, [row], max_length)
    except InvalidTrainingFile:
        return False
    return True


def _as_text(mixture: Mixture) -> str:
    rows = [{"line": row.line, **row.to_dict()} for row in mixture.rows]
    return json.dumps({"facts": mixture.facts, "rows": rows}, ensure_ascii=False)


def _kept_mixture(checkpoint: Path | None) -> Mixture | None:
    """The mixture that a checkpoint kept: what a model wrote is not asked for twice."""
    path = None if checkpoint is None else checkpoint / MIXTURE_FILE
    if path is None or not path.is_file():
        return None
    kept = json.loads(path.read_text(encoding="utf-8"))
    judged = [judge_row(value["line"], value) for value in kept["rows"]]
    return Mixture(tuple(row for row, _ in judged if row is not None), kept["facts"])
