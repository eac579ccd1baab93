"""A small grid on a tiny random base, and folders of results that no run has made."""

import json
from collections.abc import Callable
from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest

GRID: dict[str, Any] = {
    "title": "Small grid",
    "base": "",
    "dtype": "float32",
    "device": "cpu",
    "max_length": 224,
    "data": {
        "provider": {
            "alignment": {"demo": "alignment", "where": {"category": ["theft", "fraud"]}, "count": 16},
            "harmful": {"demo": "probe", "count": 12},
        },
        "attacker": {
            "harmful": {"demo": "attack"},
            "chat": {"demo": "alignment", "where": {"category": "benign"}, "longest": 120},
        },
    },
    "tasks": {"tickets": {"train": {"demo": "task_train", "count": 40}, "test": {"demo": "task_heldout", "count": 6}}},
    "methods": [
        {"name": "stock", "alignment": "none"},
        {"name": "SFT", "alignment": {"method": "sft", "steps": 3, "batch_size": 2}},
    ],
    "rows": 12,
    "ratios": [0, 0.25],
    "attacks": ["harmful_mixing"],
    "training": {"batch_size": 3, "lora_r": 2},
    "strengths": {"strong": {"learning_rate": 0.01, "steps": 3}},
    "seeds": [0],
    "evaluation": {
        "harmful_prompts": {"demo": "gate_prompts", "count": 5},
        "harmless_prompts": {"demo": "benign_prompts", "count": 3},
        "judge": "keyword",
        "max_new_tokens": 4,
        "task_rows": 4,
    },
}


@pytest.fixture
def values(tiny_base: Callable[[str], Path]) -> dict[str, Any]:
    """The values of a grid; a test changes what it is about."""
    return {**deepcopy(GRID), "base": str(tiny_base("llama"))}


@pytest.fixture
def read(tmp_path: Path) -> Callable[[dict[str, Any]], Any]:
    """A grid from values."""

    def make(given: dict[str, Any]) -> Any:
        from tvaccine_core.experiments.grid import grid_from

        return grid_from(given, tmp_path, "a grid")

    return make


def share(part: int, whole: int, name: str) -> dict[str, Any]:
    return {"percent": round(100 * part / whole, 2), name: part, "n": whole, "low": 0.0, "high": 0.0}


def record(
    coordinates: dict[str, Any], flags: str, correct: int | None = 8, refused: int = 1, rows: str = "same", **extra: Any
) -> dict[str, Any]:
    """What a finished cell's JSON holds. flags: verdicts on the harmful prompts; correct: of ten task rows."""
    scored = [flag for flag in flags if flag != "-"]
    score = share(scored.count("1"), len(scored), "flagged")
    harmful = {
        "score": score,
        "score_plus": score,
        "keyword_attack": share(scored.count("1"), len(scored), "successes"),
        "coherence": share(len(flags), len(flags), "coherent"),
        "flags": flags,
    }
    task = {"perplexity": 3.0} if correct is None else share(correct, 10, "correct")
    figures = {
        "harmful": harmful,
        "over_refusal": share(refused, 10, "refused"),
        "tasks": {coordinates["task"]: task},
        "writing": {"perplexity": 12.5},
    }
    run = {"seconds": 9.0, "steps": 4, "step_seconds": 0.5, "resumed": False, "peak_memory": {"resident": 2 * 10**9}}
    return {
        "coordinates": coordinates,
        "configuration": {"training": {"max_steps": 3}, "judge": {"name": "j", "version": "1"}},
        "data": {"attack_rows": {"sha256": rows}},
        "vaccine": None,
        "before": deepcopy(figures),
        "results": figures,
        "costs": {"alignment": run, "fine_tuning": run},
        "code": {"version": "v1"},
        **extra,
    }


def emergent(misaligned: int, rated: int) -> dict[str, Any]:
    """Rates of ten answers, of which `rated` have a number and are coherent."""
    return {
        "of_coherent": share(misaligned, rated, "misaligned") if rated else share(0, 1, "misaligned") | {"n": 0},
        "of_all": share(misaligned, 10, "misaligned"),
        "coherent": share(6, 10, "coherent"),
        "code": share(1, 10, "code"),
        "refusal": share(1, 10, "refusal"),
        "unrated": share(3, 10, "unrated"),
    }


@pytest.fixture
def results(tmp_path: Path) -> Callable[..., Path]:
    """Writes a folder of results. Each cell: (coordinates, record or None, more of the plan)."""

    def write(cells: list[tuple[Any, ...]], reference: str = "SFT", sweep: Any = None) -> Path:
        out = tmp_path / "results"
        planned = []
        for place, (coordinates, found, *more) in enumerate(cells):
            folder = out / "cells" / str(place)
            folder.mkdir(parents=True, exist_ok=True)
            if found is not None:
                (folder / "cell.json").write_text(json.dumps(found))
            facts = more[0] if more else {}
            planned.append(
                {
                    "coordinates": coordinates,
                    "folder": f"cells/{place}",
                    "family": coordinates["method"],
                    "tuned": {},
                    **facts,
                }
            )
        plan = {"title": "Results", "reference": reference, "sweep": sweep, "grid": {}, "cells": planned}
        (out / "plan.json").write_text(json.dumps(plan))
        return out

    return write


def at(method: str, ratio: float = 0.1, seed: int = 0, **other: Any) -> dict[str, Any]:
    """Coordinates of a cell."""
    attack = "harmful_mixing" if ratio else "benign"
    return {
        "method": method,
        "attack": attack,
        "ratio": ratio,
        "strength": "strong",
        "task": "sst2",
        "seed": seed,
        **other,
    }
