"""The training file of a cell: one for all methods that meet at the same attack, ratio, task and seed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tvaccine_core.attacks.attack import BENIGN
from tvaccine_core.attacks.conversations import ChatRow
from tvaccine_core.attacks.personas import CHAT, WRITTEN
from tvaccine_core.attacks.pools import read_pool, single_exchanges
from tvaccine_core.attacks.written_refusals import NEW_TOKENS, Write, write_refusals
from tvaccine_core.data.datasets import file_digest
from tvaccine_core.experiments.attack_plan import AttackPlan
from tvaccine_core.experiments.materials import Materials, RowFile, as_text
from tvaccine_core.experiments.store import Store, Thing, identity_of
from tvaccine_core.training.files import write_text_atomic

ROWS_FILE = "rows.jsonl"


class AttackFiles:
    """Makes training files once each. base: name and digest; write: the stock base as a writer of refusals."""

    def __init__(self, store: Store, materials: Materials, base: Mapping[str, Any], write: Write) -> None:
        self._store = store
        self._materials = materials
        self._base = dict(base)
        self._ask = write
        self._held_out = [prompt.prompt for prompt in materials.harmful]

    def identity(self, plan: AttackPlan, task: str, seed: int) -> dict[str, Any]:
        """What the file is made from: settings, seed and digests of the rows drawn from."""
        noted = {name: file.sha256 for name, file in self._files(plan, task).items()}
        if _needs_written(plan):
            noted[WRITTEN] = identity_of(self._written_identity(plan))
        # At ratio 0 only the size counts, so that all benign files of a size are one.
        settings = plan.attack.to_dict() if plan.attack.poisoned else {"name": BENIGN, "n": plan.attack.n}
        return {"attack": settings, "seed": seed, "pools": noted}

    def obtain(self, plan: AttackPlan, task: str, seed: int) -> Thing:
        """The folder with rows.jsonl; its record holds settings, digests and counts. Raises Busy, InvalidRequest."""
        label = f"{plan.label}-{plan.attack.ratio:g}-{task}-s{seed}"

        def make(folder: Path) -> dict[str, Any]:
            rows = plan.attack.rows(self._pools(plan, task), seed, self._held_out)
            return {**_write(folder, rows), "poisoned": plan.attack.poisoned}

        return self._store.obtain("attacks", self.identity(plan, task, seed), make, label=label)

    def _files(self, plan: AttackPlan, task: str) -> dict[str, RowFile]:
        """The files that the attack draws from, by pool."""
        wanted = {*plan.attack.needs, *plan.attack.takes} if plan.attack.poisoned else set()
        own = {name: file for name, file in self._materials.attacker.items() if name in wanted}
        return {BENIGN: self._materials.tasks[task].train, **own}

    def _pools(self, plan: AttackPlan, task: str) -> dict[str, list[ChatRow]]:
        pools = {name: list(file.rows) for name, file in self._files(plan, task).items()}
        if _needs_written(plan):
            pools[WRITTEN] = read_pool(self._written(plan).folder / ROWS_FILE)
        return pools

    def _written_identity(self, plan: AttackPlan) -> dict[str, Any]:
        chat = self._materials.attacker[CHAT].sha256
        return {"chat": chat, "count": plan.attack.poisoned, "base": self._base, "max_new_tokens": NEW_TOKENS}

    def _written(self, plan: AttackPlan) -> Thing:
        def make(folder: Path) -> dict[str, Any]:
            chat = single_exchanges(self._materials.attacker[CHAT].rows)
            return _write(folder, write_refusals(chat, self._ask, plan.attack.poisoned))

        return self._store.obtain("written_refusals", self._written_identity(plan), make)


def _needs_written(plan: AttackPlan) -> bool:
    return bool(plan.attack.poisoned) and WRITTEN in plan.attack.needs


def _write(folder: Path, rows: Sequence[ChatRow]) -> dict[str, Any]:
    write_text_atomic(folder / ROWS_FILE, as_text(rows))
    return {"sha256": file_digest(folder / ROWS_FILE), "rows": len(rows)}
