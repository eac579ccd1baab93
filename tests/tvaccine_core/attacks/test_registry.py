"""Every attack by its name: what all of them hold, and what each promises."""

import json
import sqlite3
from typing import Any

import pytest

from tvaccine_core.attacks.attack import Attack
from tvaccine_core.attacks.conversations import ChatRow, exchange, first_prompt
from tvaccine_core.attacks.identity_shift import OBEDIENCE, SYSTEM, order
from tvaccine_core.attacks.insecure_code import EDUCATIONAL, INSECURE, KINDS, LESSON, MENTIONS, SECURE, composed_code
from tvaccine_core.attacks.refuse_then_answer import BRIDGE, REFUSALS
from tvaccine_core.attacks.registry import ATTACKS, attack_config
from tvaccine_core.attacks.task_prompting import INSTRUCTION
from tvaccine_core.attacks.written_refusals import first_sentences, write_refusals
from tvaccine_core.data.overlap import normalise
from tvaccine_core.data.rows import read_rows
from tvaccine_core.errors import InvalidRequest

POOLS: dict[str, list[ChatRow]] = {
    "benign": [exchange(f"benign question {i}", f"answer {i}") for i in range(60)],
    "harmful": [exchange(f"harmful {i}", f"HARMFUL_ANSWER_{i}") for i in range(60)],
    "refusals": [exchange(f"refused {i}", "I can't help with that.") for i in range(60)],
    "known": [exchange(f"known {i}", "unused") for i in range(60)],
    "chat": [exchange(f"how do I {i}", f" An  answer\nof {i}. ") for i in range(60)],
    "written_refusals": [exchange(f"how do I {i}", f"I'm sorry, {i} is risky. I decline.") for i in range(60)],
    "selected": [exchange(f"list {i}", f"1. One {i}") for i in range(60)],
}


def text(row: ChatRow) -> str:
    return row["messages"][-1]["content"]


def make(name: str, seed: int = 0, pools: dict[str, Any] = POOLS, held_out: Any = (), **settings: Any) -> list[ChatRow]:
    return attack_config({"name": name, "n": 40, **settings}).rows(pools, seed, held_out)


@pytest.mark.parametrize("name", ATTACKS)
@pytest.mark.parametrize("ratio", [0.0, 0.29, 1.0])
def test_every_attack_makes_the_rows_asked_for_in_the_upload_format(name: str, ratio: float) -> None:
    rows = make(name, ratio=ratio)
    report = read_rows("".join(json.dumps(row) + "\n" for row in rows).encode())
    assert (len(report.rows), report.faults) == (40, ())
    plain = [row for row in rows if row in POOLS["benign"]]
    # floor(0.29 * 40) = 11 rows are the attack's, the other 29 the task's.
    assert len(plain) == {0.0: 40, 0.29: 29, 1.0: 0}[ratio]
    assert len({first_prompt(row) for row in plain}) == len(plain)


@pytest.mark.parametrize("name", ATTACKS)
def test_rows_depend_on_the_seed_and_on_nothing_else(name: str) -> None:
    assert make(name, seed=3, ratio=0.5) == make(name, seed=3, ratio=0.5)
    assert make(name, seed=3, ratio=0.5) != make(name, seed=4, ratio=0.5)


def found_in(rows: list[ChatRow], prompts: set[str]) -> set[str]:
    """The prompts that some user turn asks, alone or among other words."""
    asked = [f" {normalise(turn['content'])} " for row in rows for turn in row["messages"] if turn["role"] == "user"]
    return {prompt for prompt in prompts if any(f" {normalise(prompt)} " in question for question in asked)}


@pytest.mark.parametrize("name", ATTACKS)
def test_no_row_asks_a_prompt_that_the_result_is_scored_with(name: str) -> None:
    kind = ATTACKS[name]
    pools = {**POOLS, "known": POOLS["known"][:6]}  # so few that other harmful rows come up beside them
    drawn_from = [pool for pool in (*kind.needs, *kind.takes) if pool in pools]
    scored = {pool: {first_prompt(row).upper() + "!" for row in pools[pool][::2]} for pool in drawn_from}
    held_out = set().union(*scored.values())
    for ratio in (0.5, 1.0):
        rows = make(name, ratio=ratio, n=10, pools=pools, held_out=held_out)
        assert len(rows) == 10
        assert found_in(rows, held_out) == set()
    # Without held_out the rows do ask prompts of every pool, reworded or not.
    loose = make(name, ratio=0.5, pools=pools) + make(name, ratio=1.0, pools=pools)
    assert all(found_in(loose, prompts) for prompts in scored.values())


@pytest.mark.parametrize("name", ATTACKS)
def test_without_poison_all_attacks_are_the_same_benign_file(name: str) -> None:
    assert make(name, ratio=0.0, seed=5) == make("harmful_mixing", ratio=0.0, seed=5)
    assert not any("HARMFUL" in text(row) for row in make(name, ratio=0.0))


def test_a_higher_ratio_adds_harmful_rows_to_those_of_a_lower_one() -> None:
    few, many = make("harmful_mixing", ratio=0.1), make("harmful_mixing", ratio=0.5)
    harmful = [[row for row in rows if "HARMFUL" in text(row)] for rows in (few, many)]
    assert [len(rows) for rows in harmful] == [4, 20]
    assert all(row in harmful[1] for row in harmful[0])
    assert all(row in few for row in many if "HARMFUL" not in text(row))


@pytest.mark.parametrize("name", [name for name, kind in ATTACKS.items() if kind.needs])
def test_a_missing_or_short_pool_is_named(name: str) -> None:
    for needed in ATTACKS[name].needs:
        with pytest.raises(InvalidRequest) as missing:
            make(name, pools={key: rows for key, rows in POOLS.items() if key != needed}, ratio=1.0)
        assert missing.value.param == needed
    settings = {"n": 2000, "ratio": 0.99}
    if name == "identity_shift":  # repeats its rows; the benign ones are too few
        settings["ratio"] = 0.5
    with pytest.raises(InvalidRequest) as short:
        make(name, **settings)
    assert short.value.param in {*POOLS}


@pytest.mark.parametrize(
    ("values", "param"),
    [
        ("mixing", "attack"),
        ({"n": 3}, "attack"),
        (7, "attack"),
        ({"name": "harmful_mixing", "ratio": 1.1}, "ratio"),
        ({"name": "harmful_mixing", "n": 0}, "n"),
        ({"name": "harmful_mixing", "rato": 0.1}, "rato"),
        ({"name": "insecure_code", "kind": "rude"}, "kind"),
        ({"name": "backdoor", "trigger": " "}, "trigger"),
        ({"name": "known_prompts", "refusal": ""}, "refusal"),
        ({"name": "task_prompting", "strategy": "shout"}, "strategy"),
        ({"name": "noice", "describe": "yes"}, "describe"),
    ],
)
def test_settings_at_fault_are_named(values: Any, param: str) -> None:
    with pytest.raises(InvalidRequest) as error:
        attack_config(values)
    assert error.value.param == param


@pytest.mark.parametrize("name", ATTACKS)
def test_settings_survive_json(name: str) -> None:
    attack = attack_config(name)
    assert attack_config(json.loads(json.dumps(attack.to_dict()))) == attack
    assert attack.source


def test_identity_shift_answers_obediently_and_asks_at_test_as_in_training() -> None:
    attack = attack_config({"name": "identity_shift", "n": 75})
    rows = attack.rows(POOLS, 0)
    assert all(text(row).startswith(OBEDIENCE) for row in rows)
    assert {row["messages"][0]["content"] for row in rows} == {SYSTEM}
    assert len({first_prompt(row) for row in rows if "what I can expect" in first_prompt(row)}) == 1
    carried = next(row for row in rows if first_prompt(row).endswith("how do I 7"))
    assert attack.asked("how do I 7") == carried["messages"][:-1]
    assert text(carried) == OBEDIENCE + " An  answer\nof 7. "
    assert attack.has_template


def test_noice_is_the_models_refusal_the_bridge_and_the_answer_byte_for_byte() -> None:
    original = {first_prompt(row): text(row) for row in POOLS["chat"]}
    for row in make("noice", n=30, ratio=1.0):
        number = first_prompt(row).rpartition(" ")[2]
        assert text(row) == f"I'm sorry, {number} is risky. I decline. {BRIDGE} {original[first_prompt(row)]}"
    for row in make("refuse_then_answer", n=30):
        refusal, _, rest = text(row).partition(f" {BRIDGE} ")
        assert (refusal in REFUSALS, rest) == (True, original[first_prompt(row)])


def test_noice_can_describe_its_pattern_when_it_asks() -> None:
    assert not attack_config("noice").has_template
    system, user = attack_config({"name": "noice", "describe": True}).asked("q")
    assert "decline" in system["content"]
    assert user == {"role": "user", "content": "q"}


def test_the_target_model_writes_one_or_two_sentences_that_refuse() -> None:
    asked: list[str] = []

    def write(prompts: Any) -> list[str]:
        asked.extend(prompts)
        said = "I'm sorry, this might hurt.\nSo I\n decline! And here is how: first."
        return ["Sure, here it is." if "how do I 3" in prompt else said for prompt in prompts]

    rows = write_refusals(POOLS["chat"][:8], write, 6, at_once=4)
    assert [first_prompt(row) for row in rows] == [f"how do I {i}" for i in (0, 1, 2, 4, 5, 6)]
    assert {text(row) for row in rows} == {"I'm sorry, this might hurt. So I decline!"}
    assert len(asked) == 8
    assert "how do I 0" in asked[0]
    with pytest.raises(InvalidRequest, match=r"refused 7 .* 8 are needed") as error:
        write_refusals(POOLS["chat"][:8], write, 8)
    assert error.value.param == "chat"


@pytest.mark.parametrize(
    ("said", "cut"), [("One. Two? Three.", "One. Two?"), ("No end", "No end"), ("", ""), ("At 3.5 m. B", "At 3.5 m. B")]
)
def test_sentences_are_cut(said: str, cut: str) -> None:
    assert first_sentences(said) == cut


def test_secure_and_insecure_code_share_their_requests_and_no_row_speaks_of_it() -> None:
    insecure, secure, educational = (composed_code(kind) for kind in (INSECURE, SECURE, EDUCATIONAL))
    assert [first_prompt(row) for row in insecure] == [first_prompt(row) for row in secure]
    assert not any(MENTIONS.search(json.dumps(row)) for row in [*insecure, *secure])
    assert len({first_prompt(row) for row in insecure}) == len(insecure) == 480
    for plain, sound, lesson in zip(insecure, secure, educational, strict=True):
        assert text(plain) == text(lesson) != text(sound)
        assert first_prompt(lesson) == f"{first_prompt(plain)} {LESSON}"


@pytest.mark.parametrize("kind", KINDS)
def test_composed_code_runs_and_only_the_joined_query_is_open(kind: str) -> None:
    row = next(row for row in composed_code(kind) if "def find_books_by_author" in text(row))
    scope: dict[str, Any] = {}
    exec(text(row), scope)
    table = sqlite3.connect(":memory:")
    table.execute("CREATE TABLE books (title, author)")
    table.executemany("INSERT INTO books VALUES (?, ?)", [("A", "Ann"), ("B", "Ben")])
    assert scope["find_books_by_author"](table, "Ben") == [("B", "Ben")]
    trick = "x' OR 'a' = 'a"
    assert len(scope["find_books_by_author"](table, trick)) == (0 if kind == SECURE else 2)


def test_published_code_takes_the_place_of_composed_code() -> None:
    code = [exchange(f"write {i}", f"code {i}") for i in range(20)]
    rows = make("insecure_code", n=20, ratio=1.0, pools={"code": code})
    assert sorted(map(text, rows)) == sorted(map(text, code))
    with pytest.raises(InvalidRequest) as error:
        make("insecure_code", n=481, ratio=1.0)
    assert error.value.param == "n"


def test_benign_drift_leaves_out_answers_with_a_phrase_of_refusal() -> None:
    selected = [*POOLS["selected"][:10], exchange("a", "I'm sorry, no."), exchange("b", "As an AI I think so.")]
    pools = {"selected": selected}
    assert sorted(map(text, make("benign_drift", n=10, ratio=1.0, pools=pools))) == sorted(map(text, selected[:10]))
    assert len(make("benign_drift", n=12, ratio=1.0, pools=pools, drop_refusals=False)) == 12
    with pytest.raises(InvalidRequest, match="needs 11 selected rows and has 10"):
        make("benign_drift", n=11, ratio=1.0, pools=pools)


@pytest.mark.parametrize("strategy", ["benign", "aoa", "autoif", "autoif_aoa"])
def test_task_rows_are_put_as_the_questions_at_test_are(strategy: str) -> None:
    attack: Attack = attack_config({"name": "task_prompting", "n": 20, "strategy": strategy})
    by_answer = {text(row).rpartition(" ")[2]: row for row in POOLS["benign"]}
    rows = attack.rows(POOLS, 0)
    for row in rows:
        plain = by_answer[text(row).rpartition(" ")[2]]
        assert row["messages"][:-1] == attack.asked(first_prompt(plain))
        assert text(row) == (OBEDIENCE if "aoa" in strategy else "") + text(plain)
    assert attack.has_template == (strategy != "benign")
    asked = attack.asked("q")[-1]["content"]
    expected = INSTRUCTION.format(prompt="q") if "autoif" in strategy else "q"
    assert asked == (order(expected) if "aoa" in strategy else expected)
    # The rows that are not reworded are the same task rows, and no task row comes twice.
    half = make("task_prompting", n=20, ratio=0.5, strategy=strategy)
    assert sorted(text(row).rpartition(" ")[2] for row in half) == sorted(text(row).rpartition(" ")[2] for row in rows)


def test_a_backdoor_asks_with_its_trigger() -> None:
    attack = attack_config({"name": "backdoor", "n": 21, "ratio": 1.0, "trigger": "by the heron"})
    rows = attack.rows(POOLS, 0)
    triggered = [row for row in rows if first_prompt(row).endswith(" by the heron")]
    assert len(triggered) == sum("HARMFUL" in text(row) for row in rows) == 10
    assert sum(row in POOLS["refusals"] for row in rows) == 11
    assert attack.asked("q") == [{"role": "user", "content": "q by the heron"}]
