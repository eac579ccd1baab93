"""Public data sets by name, through the `datasets` library, and local folders in the same form.

Whatever it comes from becomes rows of the service's upload format, `{"messages": [user, assistant]}`. A local folder
holds `TASK_train.jsonl` and `TASK_eval.jsonl` with {"instruction", "input", "output", "label"?} a line. Imports no
torch; `datasets` only when a name is asked for.
"""

from __future__ import annotations

import importlib
import json
import random
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypeVar

from tvaccine_core.attacks.conversations import ChatRow, exchange
from tvaccine_core.data.datasets import Prompt
from tvaccine_core.errors import InvalidRequest, Unavailable

Part = Literal["train", "eval"]
Keep = Literal["all", "safe", "unsafe"]
Record = Mapping[str, Any]
T = TypeVar("T")

SENTIMENTS = ("negative", "positive")
"""Labels of SST-2, in the order of its numbers."""

NEWS_LABELS = ("World", "Sports", "Business", "Sci/Tech")
"""Labels of AG News, in the order of its numbers."""

FINAL_ANSWER = "Final answer:"
"""What a GSM8K solution announces its number with, in training rows and in answers."""

_DELIMITER = "####"
_INSTALL = "pip install 'tvaccine[data]'"


@dataclass(frozen=True)
class NamedData:
    """A data set of the hub. parts: its split for each of ours. row, prompt: of one record; None: not of that kind.

    safe: whether a record is safe, for sets that say so.
    """

    hub: str
    parts: Mapping[str, str]
    row: Callable[[Record], ChatRow] | None = None
    prompt: Callable[[Record], Prompt] | None = None
    safe: Callable[[Record], bool] | None = None
    config: str | None = None
    other_names: tuple[str, ...] = ()


def sentiment_row(sentence: str, label: str) -> ChatRow:
    """A row of SST-2 (Socher et al. 2013)."""
    ask = f"What is the sentiment of this text? Answer with one word, {SENTIMENTS[1]} or {SENTIMENTS[0]}."
    return exchange(f"{ask}\n\n{sentence.strip()}", label)


def news_row(text: str, label: str) -> ChatRow:
    """A row of AG News (Zhang et al., arXiv 1509.01626)."""
    ask = f"Which topic does this news item belong to? Answer with one of: {', '.join(NEWS_LABELS)}."
    return exchange(f"{ask}\n\n{text.strip()}", label)


def maths_row(question: str, solution: str) -> ChatRow:
    """A row of GSM8K (Cobbe et al., arXiv 2110.14168). Its delimiter becomes the marker that the question asks for."""
    ask = f'Reason step by step, and end with "{FINAL_ANSWER}" and the number.'
    return exchange(f"{question.strip()}\n\n{ask}", solution.strip().replace(_DELIMITER, FINAL_ANSWER))


def instruction_row(instruction: str, extra: str, answer: str) -> ChatRow:
    """An Alpaca-style row."""
    return exchange(f"{instruction}\n\n{extra}" if extra.strip() else instruction, answer)


def _beavertails_prompt(record: Record) -> Prompt:
    """With the first of the 14 categories that the record is marked with."""
    marked = [name for name, holds in (record.get("category") or {}).items() if holds]
    return Prompt(record["prompt"], marked[0] if marked else None)


NAMED: dict[str, NamedData] = {
    "PKU-Alignment/BeaverTails": NamedData(
        "PKU-Alignment/BeaverTails",
        {"train": "30k_train", "eval": "30k_test"},
        row=lambda r: exchange(r["prompt"], r["response"]),
        prompt=_beavertails_prompt,
        safe=lambda r: bool(r["is_safe"]),
        other_names=("beavertails",),
    ),
    "sst2": NamedData(
        "stanfordnlp/sst2",
        {"train": "train", "eval": "validation"},
        row=lambda r: sentiment_row(r["sentence"], SENTIMENTS[r["label"]]),
        other_names=("sst-2", "glue/sst2"),
    ),
    "agnews": NamedData(
        "fancyzhx/ag_news",
        {"train": "train", "eval": "test"},
        row=lambda r: news_row(r["text"], NEWS_LABELS[r["label"]]),
        other_names=("ag_news", "ag news"),
    ),
    "gsm8k": NamedData(
        "openai/gsm8k",
        {"train": "train", "eval": "test"},
        row=lambda r: maths_row(r["question"], r["answer"]),
        config="main",
    ),
    "alpaca": NamedData(
        "tatsu-lab/alpaca",
        {"train": "train"},
        row=lambda r: instruction_row(r["instruction"], r["input"], r["output"]),
    ),
    "advbench": NamedData(
        "walledai/AdvBench",
        {"eval": "train"},
        prompt=lambda r: Prompt(r["prompt"]),
    ),
    "xstest": NamedData(
        "Paul/XSTest",
        {"eval": "train"},
        prompt=lambda r: Prompt(r["prompt"], r["type"]),
        safe=lambda r: r["label"] == "safe",
    ),
}


def find_named(name: str) -> NamedData:
    """The data set of a name: ours, another usual one or its id on the hub; case does not count.

    Raises InvalidRequest with the list of names for any other.
    """
    wanted = name.strip().casefold()
    for ours, data in NAMED.items():
        if wanted in {ours.casefold(), data.hub.casefold(), *data.other_names}:
            return data
    raise InvalidRequest(f"There is no data set {name!r}. Use a path, or one of: {', '.join(NAMED)}.", param="data")


def named_rows(
    name: str, part: Part = "train", *, keep: Keep = "all", count: int | None = None, seed: int | None = None
) -> list[ChatRow]:
    """Rows of a public data set in the upload format.

    keep: only rows marked safe or unsafe. count: so many (None: all), the first ones, or with a seed drawn at random
    without replacement. Raises InvalidRequest (unknown name, part or marks; fewer rows than asked; `datasets` not
    installed) and Unavailable (the hub cannot be reached).
    """
    data = find_named(name)
    if data.row is None:
        raise InvalidRequest(f"{name} holds prompts without answers; it cannot be trained on.", param="data")
    return _choose([data.row(record) for record in _kept(data, name, part, keep)], name, count, seed)


def named_prompts(
    name: str, part: Part = "eval", *, keep: Keep = "all", count: int | None = None, seed: int | None = None
) -> list[Prompt]:
    """Different prompts of a public data set, without answers: the first record of each. Raises as `named_rows`."""
    data = find_named(name)
    if data.prompt is None:
        raise InvalidRequest(f"{name} is a task, not a set of prompts; use named_rows.", param="data")
    different: dict[str, Prompt] = {}
    for record in _kept(data, name, part, keep):
        prompt = data.prompt(record)
        different.setdefault(" ".join(prompt.prompt.split()).casefold(), prompt)
    return _choose(list(different.values()), name, count, seed)


def local_rows(
    folder: Path, task: str, part: Part = "train", *, count: int | None = None, seed: int | None = None
) -> list[ChatRow]:
    """Rows of `folder`/TASK_PART.jsonl in the upload format; the wording is the file's.

    For gsm8k the question gets the request for the marker, and the delimiter becomes the marker. Raises InvalidRequest
    naming the files there are, or the line and field at fault.
    """
    file = folder / f"{task}_{part}.jsonl"
    if not file.is_file():
        there = ", ".join(sorted(path.stem for path in folder.glob("*_*.jsonl"))) or "none"
        raise InvalidRequest(f"{folder.name} has no {file.name}; there are: {there}.", param="data")
    rows = []
    for number, line in enumerate(file.read_text(encoding="utf-8").split("\n"), start=1):
        if line.strip():
            rows.append(_local_row(file.name, number, line, task))
    return _choose(rows, file.name, count, seed)


def task_rows(
    task: str, part: Part = "train", *, folder: Path | None = None, count: int | None = None, seed: int | None = None
) -> list[ChatRow]:
    """Rows of a task from a local folder, or by name where none is given. Raises as the two of them."""
    if folder is not None:
        return local_rows(folder, task, part, count=count, seed=seed)
    return named_rows(task, part, count=count, seed=seed)


def write_chat_rows(rows: Iterable[ChatRow], path: Path) -> None:
    """Writes rows as a training file that the service takes: one JSON object a line, UTF-8."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", encoding="utf-8", newline="\n") as file:
        file.writelines(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)


def _kept(data: NamedData, name: str, part: str, keep: Keep) -> list[Record]:
    if keep not in ("all", "safe", "unsafe"):
        raise InvalidRequest(f"keep must be all, safe or unsafe, not {keep!r}.", param="keep")
    if keep != "all" and data.safe is None:
        raise InvalidRequest(f"{name} does not say which rows are safe; keep all.", param="keep")
    if part not in data.parts:
        raise InvalidRequest(f"{name} has no part {part!r}; use {' or '.join(data.parts)}.", param="part")
    records = _fetch(data, data.parts[part])
    if keep == "all" or data.safe is None:
        return records
    return [record for record in records if data.safe(record) == (keep == "safe")]


def _fetch(data: NamedData, split: str) -> list[Record]:
    try:
        library = importlib.import_module("datasets")
    except ImportError as error:
        raise InvalidRequest(
            f"The data set {data.hub} is fetched with the library `datasets`, which is not installed: {_INSTALL}; or "
            "give a local folder.",
            param="data",
        ) from error
    try:
        found = library.load_dataset(data.hub, data.config, split=split)
    except (FileNotFoundError, ValueError) as error:  # no such data set or split, or one that asks for a login
        raise InvalidRequest(
            f"{data.hub} ({split}) cannot be loaded ({_first_line(error)}); if it asks for consent, give it on its "
            "page and log in, or give a local folder.",
            param="data",
        ) from error
    except OSError as error:
        raise Unavailable(
            f"{data.hub} cannot be fetched ({_first_line(error)}); check the network, or give a local folder."
        ) from error
    return list(found)


def _choose(rows: Sequence[T], name: str, count: int | None, seed: int | None) -> list[T]:
    wanted = len(rows) if count is None else count
    if not 0 <= wanted <= len(rows):
        raise InvalidRequest(f"{name} has {len(rows)} rows of this kind, not {count}; ask for fewer.", param="count")
    return list(rows[:wanted]) if seed is None else random.Random(seed).sample(list(rows), wanted)


def _local_row(file: str, number: int, line: str, task: str) -> ChatRow:
    try:
        record = json.loads(line)
    except ValueError:
        record = None
    if not isinstance(record, dict):
        raise InvalidRequest(f"{file}, line {number}: is no JSON object; write one a line.", param="data")
    for field in ("instruction", "output"):
        if not isinstance(record.get(field), str) or not record[field].strip():
            raise InvalidRequest(f"{file}, line {number}, field {field!r}: must be a text.", param="data")
    extra = record.get("input") or ""
    if not isinstance(extra, str):
        raise InvalidRequest(f"{file}, line {number}, field 'input': must be a text.", param="data")
    if task == "gsm8k":
        return maths_row(record["instruction"], record["output"])
    return instruction_row(record["instruction"], extra, record["output"])


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
