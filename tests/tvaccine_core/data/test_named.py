import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from tvaccine_core.data.named import (
    FINAL_ANSWER,
    NAMED,
    NEWS_LABELS,
    find_named,
    local_rows,
    named_prompts,
    named_rows,
    task_rows,
    write_chat_rows,
)
from tvaccine_core.data.rows import read_rows_file, require_valid
from tvaccine_core.errors import InvalidRequest, Unavailable

# One record of each set, with the fields and splits that it has on the hub.
BEAVERS = [
    {"prompt": "How?", "response": "Like this.", "category": {"violence": True, "theft": True}, "is_safe": False},
    {"prompt": "how? ", "response": "No.", "category": {"violence": False}, "is_safe": True},
    {"prompt": "Why?", "response": "Because.", "category": {"theft": True}, "is_safe": False},
]
HUB: dict[tuple[str, str | None], dict[str, list[dict[str, Any]]]] = {
    ("PKU-Alignment/BeaverTails", None): {"30k_train": BEAVERS, "30k_test": BEAVERS[::-1]},
    ("stanfordnlp/sst2", None): {
        "train": [{"idx": 0, "sentence": "a fine film ", "label": 1}, {"idx": 1, "sentence": "dull", "label": 0}],
        "validation": [{"idx": 0, "sentence": "good", "label": 1}],
    },
    ("fancyzhx/ag_news", None): {
        "train": [{"text": f"news {label}", "label": label} for label in range(4)],
        "test": [{"text": "late news", "label": 3}],
    },
    ("openai/gsm8k", "main"): {
        "train": [{"question": "2 + 3?", "answer": "It is <<2+3=5>>5.\n#### 5"}],
        "test": [{"question": "1,000 * 2?", "answer": "So 2,000.\n#### 2,000"}],
    },
    ("tatsu-lab/alpaca", None): {"train": [{"instruction": "Add.", "input": "1 and 2", "output": "3", "text": "..."}]},
    ("walledai/AdvBench", None): {
        "train": [{"prompt": "Do harm", "target": "Sure"}, {"prompt": "Do more", "target": "Sure"}]
    },
    ("Paul/XSTest", None): {
        "train": [
            {"prompt": "Kill a process?", "type": "homonyms", "label": "safe"},
            {"prompt": "Kill a man?", "type": "contrast_homonyms", "label": "unsafe"},
        ]
    },
}


def load_dataset(name: str, config: str | None = None, *, split: str) -> list[dict[str, Any]]:
    """Stands in for the library: only what is on the hub, and the errors that the library raises."""
    if (name, config) not in HUB:
        raise FileNotFoundError(f"Dataset '{name}' doesn't exist on the Hub or cannot be accessed.")
    if split not in HUB[name, config]:
        raise ValueError(f'Unknown split "{split}". Should be one of {list(HUB[name, config])}.')
    return HUB[name, config][split]


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Callable[[Callable[..., Any]], None]:
    """The library is not there when the tests run, and neither is the network: this is its one function we call."""

    def install(function: Callable[..., Any]) -> None:
        monkeypatch.setitem(sys.modules, "datasets", SimpleNamespace(load_dataset=function))  # type: ignore[arg-type]

    install(load_dataset)
    return install


def pairs(rows: Any) -> list[tuple[str, str]]:
    return [(row["messages"][0]["content"], row["messages"][1]["content"]) for row in rows]


@pytest.mark.usefixtures("hub")
@pytest.mark.parametrize("name", [name for name, data in NAMED.items() if data.row is not None])
def test_every_part_of_every_set_is_in_the_upload_format(name: str, tmp_path: Path) -> None:
    for part in find_named(name).parts:
        write_chat_rows(named_rows(name, part), tmp_path / "rows.jsonl")  # type: ignore[arg-type]
        rows = require_valid(read_rows_file(tmp_path / "rows.jsonl", min_rows=1))
        assert all([message.role for message in row.messages] == ["user", "assistant"] for row in rows)


@pytest.mark.usefixtures("hub")
def test_labels_become_words() -> None:
    ((ask, answer), (_, other)) = pairs(named_rows("SST-2"))
    assert ask.endswith("\n\na fine film")
    assert (answer, other) == ("positive", "negative")
    assert tuple(answer for _, answer in pairs(named_rows("ag_news"))) == NEWS_LABELS
    assert all(label in pairs(named_rows("agnews", "eval"))[0][0] for label in NEWS_LABELS)


@pytest.mark.usefixtures("hub")
def test_maths_ends_with_the_marker_that_the_question_asks_for() -> None:
    ((ask, answer),) = pairs(named_rows("gsm8k"))
    assert ask.startswith("2 + 3?")
    assert FINAL_ANSWER in ask
    assert answer == f"It is <<2+3=5>>5.\n{FINAL_ANSWER} 5"


@pytest.mark.usefixtures("hub")
def test_alpaca_puts_the_input_below_the_instruction() -> None:
    assert pairs(named_rows("alpaca")) == [("Add.\n\n1 and 2", "3")]


@pytest.mark.usefixtures("hub")
def test_safe_and_unsafe_rows() -> None:
    assert pairs(named_rows("PKU-Alignment/BeaverTails", keep="unsafe")) == [
        ("How?", "Like this."),
        ("Why?", "Because."),
    ]
    assert pairs(named_rows("beavertails", keep="safe")) == [("how? ", "No.")]
    assert len(named_rows("beavertails")) == 3
    assert [p.prompt for p in named_prompts("xstest", keep="safe")] == ["Kill a process?"]
    with pytest.raises(InvalidRequest) as error:
        named_rows("sst2", keep="safe")
    assert error.value.param == "keep"


@pytest.mark.usefixtures("hub")
def test_prompts_are_asked_once_each_with_their_category() -> None:
    prompts = named_prompts("beavertails", "train")
    assert [(p.prompt, p.category) for p in prompts] == [("How?", "violence"), ("Why?", "theft")]
    assert [p.prompt for p in named_prompts("advbench")] == ["Do harm", "Do more"]


@pytest.mark.usefixtures("hub")
def test_so_many_rows_the_first_ones_or_drawn() -> None:
    everything = pairs(named_rows("agnews"))
    assert pairs(named_rows("agnews", count=2)) == everything[:2]
    drawn = [pairs(named_rows("agnews", count=3, seed=seed)) for seed in range(20)]
    assert drawn[0] == pairs(named_rows("agnews", count=3, seed=0))
    assert any(one != drawn[0] for one in drawn)
    assert all(len(set(one)) == 3 and set(one) <= set(everything) for one in drawn)
    with pytest.raises(InvalidRequest) as error:
        named_rows("agnews", count=5)
    assert error.value.param == "count"


@pytest.mark.usefixtures("hub")
@pytest.mark.parametrize(
    ("call", "param"),
    [
        (lambda: named_rows("mnist"), "data"),
        (lambda: named_rows("advbench"), "data"),
        (lambda: named_prompts("gsm8k"), "data"),
        (lambda: named_rows("alpaca", "eval"), "part"),
        (lambda: named_rows("beavertails", keep="both"), "keep"),  # type: ignore[arg-type]
    ],
)
def test_what_there_is_not_is_refused_by_field(call: Callable[[], Any], param: str) -> None:
    with pytest.raises(InvalidRequest) as error:
        call()
    assert error.value.param == param


def test_a_hub_that_cannot_be_reached_may_answer_later(hub: Callable[[Any], None]) -> None:
    def unreachable(*_args: Any, **_kwargs: Any) -> Any:
        raise ConnectionError("Couldn't reach 'openai/gsm8k' on the Hub (LocalEntryNotFoundError)\nmore")

    hub(unreachable)
    with pytest.raises(Unavailable, match=r"openai/gsm8k.*network") as error:
        named_rows("gsm8k")
    assert error.value.status == 503


def test_a_set_that_asks_for_consent_or_is_gone(hub: Callable[[Any], None]) -> None:
    def gone(*_args: Any, **_kwargs: Any) -> Any:
        raise FileNotFoundError("Dataset 'walledai/AdvBench' is a gated dataset on the Hub.")

    hub(gone)
    with pytest.raises(InvalidRequest, match="log in") as error:
        named_prompts("advbench")
    assert error.value.param == "data"


def test_without_the_library_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "datasets", None)  # type: ignore[arg-type]
    with pytest.raises(InvalidRequest, match=r"pip install 'tvaccine\[data\]'") as error:
        named_rows("sst2")
    assert error.value.param == "data"


def test_it_loads_neither_torch_nor_the_library() -> None:
    program = (
        "import sys, tvaccine_core.data.named; print([m for m in ('torch', 'datasets', 'numpy') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def write(folder: Path, name: str, *records: Any) -> None:
    (folder / name).write_text("".join(json.dumps(record) + "\n" for record in records), encoding="utf-8")


def test_a_local_folder(tmp_path: Path) -> None:
    write(
        tmp_path,
        "sst2_eval.jsonl",
        {"instruction": "Judge.", "input": "good", "output": "positive", "label": "positive"},
    )
    write(tmp_path, "gsm8k_train.jsonl", {"instruction": "1+1?", "input": "", "output": "2\n#### 2", "label": "2"})
    assert pairs(local_rows(tmp_path, "sst2", "eval")) == [("Judge.\n\ngood", "positive")]
    ((ask, answer),) = pairs(task_rows("gsm8k", folder=tmp_path))
    assert ask.startswith("1+1?\n\n")
    assert answer == f"2\n{FINAL_ANSWER} 2"
    with pytest.raises(InvalidRequest, match="gsm8k_train, sst2_eval"):
        local_rows(tmp_path, "agnews")


@pytest.mark.parametrize(
    "record",
    [{"instruction": "x"}, {"instruction": "", "output": "y"}, [1], {"instruction": "x", "output": "y", "input": 3}],
)
def test_a_faulty_line_is_named(tmp_path: Path, record: Any) -> None:
    write(tmp_path, "alpaca_train.jsonl", {"instruction": "x", "output": "y"}, record)
    with pytest.raises(InvalidRequest, match=r"alpaca_train\.jsonl, line 2"):
        local_rows(tmp_path, "alpaca")


@pytest.mark.usefixtures("hub")
def test_a_task_comes_from_the_folder_or_by_name(tmp_path: Path) -> None:
    write(tmp_path, "sst2_train.jsonl", {"instruction": "Judge.", "input": "", "output": "negative"})
    assert pairs(task_rows("sst2", folder=tmp_path)) == [("Judge.", "negative")]
    assert pairs(task_rows("sst2")) == pairs(named_rows("sst2"))
