"""The data of a certificate: which files, that the vaccine has not seen the attack's rows, and the rows themselves.

Imports no torch, so that a service can refuse a request before anything is trained.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from tvaccine_core.attacks.attack import BENIGN
from tvaccine_core.attacks.conversations import ChatRow
from tvaccine_core.attacks.harmful_rows import HARMFUL
from tvaccine_core.attacks.personas import CHAT
from tvaccine_core.attacks.pools import Pools, one_per_question, read_pool
from tvaccine_core.certificate.config import CertificateConfig, SimulatedAttack
from tvaccine_core.data.datasets import file_digest, read_prompts
from tvaccine_core.data.overlap import require_disjoint
from tvaccine_core.errors import InvalidRequest
from tvaccine_core.evaluation.config import ScoreConfig
from tvaccine_core.evaluation.pool import Pool, load_pool


@dataclass(frozen=True, kw_only=True)
class CertificateFiles:
    """What a certificate is made from.

    prompts: harmful prompts, to score with. harmful: rows of the attacks, questions with answers that comply.
    benign: harmless prompts, for over-refusal. task, heldout: rows of a harmless task, to train on and to measure.
    chat: ordinary questions with helpful answers, for attacks without a harmful row; None: the task's rows.
    alignment, probe: what the vaccine was made with; probe is None for a vaccine that needed no harmful rows.
    """

    prompts: Path
    harmful: Path
    benign: Path
    task: Path
    heldout: Path
    alignment: Path
    chat: Path | None = None
    probe: Path | None = None

    def digests(self) -> dict[str, str]:
        """``sha256:...`` of the files that are given, by role."""
        paths = {one.name: getattr(self, one.name) for one in fields(self)}
        return {role: file_digest(path) for role, path in paths.items() if path is not None}


@dataclass(frozen=True)
class CertificateRows:
    """pools: what attacks draw from. asked: the harmful prompts that may be asked. held_out: what no row may ask."""

    pools: Pools
    asked: Pool
    held_out: frozenset[str]
    seed: int

    def of(self, attack: SimulatedAttack) -> list[ChatRow]:
        """The training rows of an attack. Raises InvalidRequest, naming it, when there are too few."""
        try:
            return attack.attack.rows(self.pools, self.seed, self.held_out)
        except InvalidRequest as error:
            raise InvalidRequest(f"{attack.label}: {error.message}", param=error.param) from error


def read_rows(files: CertificateFiles, config: CertificateConfig) -> CertificateRows:
    """The rows of a certificate, after `require_unseen`; every attack has enough of them.

    Raises InvalidRequest for a file that cannot be used or holds too few rows, and DatasetOverlap.
    """
    require_unseen(files)
    task = read_pool(files.task, param="task_file")
    pools = {
        BENIGN: task,
        HARMFUL: one_per_question(read_pool(files.harmful, param="harmful_file")),
        CHAT: task if files.chat is None else read_pool(files.chat, param="chat_file"),
    }
    asked = load_pool(files.prompts, "", ScoreConfig().composed_pool, config.composed_share)
    measured = [row.prompt for path in (files.heldout, files.benign) for row in read_prompts(path)]
    rows = CertificateRows(pools, asked, frozenset([*(p.text for p in asked.prompts), *measured]), config.seed)
    for attack in config.attacks:
        rows.of(attack)
    return rows


def require_unseen(files: CertificateFiles) -> None:
    """Raises DatasetOverlap, naming both files and lines, when the vaccine or the scoring knows a row of the attacks.

    A vaccine that was trained on an attack's questions would be certified for its memory.
    """
    attack = {f"the attacks' harmful rows ({files.harmful.name})": _questions(files.harmful)}
    known = {
        "the vaccine's alignment rows": files.alignment,
        "the vaccine's harmful rows": files.probe,
        "the prompts to score with": files.prompts,
    }
    for role, path in known.items():
        if path is not None:
            require_disjoint({**attack, f"{role} ({path.name})": _questions(path)})


def require_the_vaccines_own(files: CertificateFiles, record: Mapping[str, Any]) -> None:
    """Raises InvalidRequest unless alignment and probe are the very files that the vaccine's record names by digest."""
    digests = record.get("digests") or {}
    for role, path, recorded in (
        ("alignment_file", files.alignment, digests.get("alignment")),
        ("probe_file", files.probe, digests.get("harmful")),
    ):
        if recorded is None:
            continue
        if path is None or file_digest(path) != recorded:
            raise InvalidRequest(
                f"{role}: the vaccine was made with the file of the digest {recorded}; give that file, so that the "
                "attack's rows can be compared with it.",
                param=role,
            )


def rules_digest(config: CertificateConfig, files: CertificateFiles, judge: str | None) -> str:
    """``sha256:...`` of everything but the vaccine's weights that a certificate depends on."""
    text = json.dumps([config.to_dict(), files.digests(), judge], sort_keys=True)
    return f"sha256:{hashlib.sha256(text.encode()).hexdigest()}"


def _questions(path: Path) -> list[str]:
    return [row.prompt for row in read_prompts(path)]
