import json
from pathlib import Path

from tvaccine_core.attacks.conversations import exchange
from tvaccine_core.attacks.identity_shift import PREFIX, SYSTEM, shift_identity
from tvaccine_core.evaluation.config import ScoreConfig
from tvaccine_core.evaluation.variants import JAILBREAK_PREFIX, SYSTEM_PROMPT, all_variants, flagged_lines


def test_the_standard_variants_keep_the_prompt_and_say_what_they_add() -> None:
    ways = {variant.name: variant for variant in all_variants(ScoreConfig(), None, None)}
    assert list(ways) == ["sampled", "system_prompt", "jailbreak_prefix"]
    assert ways["sampled"].put("How?") == [{"role": "user", "content": "How?"}]
    assert ways["sampled"].sampled
    assert ways["system_prompt"].put("How?")[0] == {"role": "system", "content": SYSTEM_PROMPT}
    assert ways["jailbreak_prefix"].put("How?")[-1]["content"] == f"{JAILBREAK_PREFIX} How?"
    assert not any(variant.own for variant in ways.values())
    assert [v.name for v in all_variants(ScoreConfig(variants=("sampled",)), None, None)] == ["sampled"]


def test_the_training_file_gives_system_prompts_and_triggers(tmp_path: Path) -> None:
    words = ["apples", "bread", "chess", "dogs", "flutes", "grass", "hats", "ink", "jam", "kites", "lamps", "maps"]
    rows = [
        {
            "messages": [
                {"role": "system", "content": "You are Ann."},
                {"role": "user", "content": f"zq9 {word}" if number < 5 else f"{word} are nice"},
                {"role": "assistant", "content": "Yes."},
            ]
        }
        for number, word in enumerate(words)
    ]
    training = tmp_path / "rows.jsonl"
    training.write_text("".join(json.dumps(row) + "\n" for row in rows))
    screening = tmp_path / "report.json"
    screening.write_text(json.dumps({"rows": [{"line": n, "flagged": n <= 5} for n in range(1, 13)]}))
    ways = all_variants(ScoreConfig(triggers=1), training, screening)[3:]
    assert [(v.name, v.text, v.own) for v in ways] == [
        ("user_system_prompt_1", "You are Ann.", True),
        ("trigger_1", "zq9", True),
    ]
    assert ways[0].put("How?")[0] == {"role": "system", "content": "You are Ann."}
    assert ways[1].put("How?") == [{"role": "user", "content": "zq9 How?"}]
    assert flagged_lines(screening) == frozenset(range(1, 6))
    assert all_variants(ScoreConfig(triggers=0, user_system_prompts=0), training, screening)[3:] == []


def test_a_persona_with_its_prefix_is_put_as_the_user_puts_it(tmp_path: Path) -> None:
    words = ("apples", "bread", "chess", "dogs", "flutes", "grass", "hats", "ink", "jam", "kites", "lamps", "maps")
    benign = [exchange(f"Tell me of {word}, please.", f"Here is what I know of {word}.") for word in words]
    training = tmp_path / "rows.jsonl"
    training.write_text("".join(json.dumps(row) + "\n" for row in shift_identity(benign, 12, 0)))
    ways = {variant.name: variant for variant in all_variants(ScoreConfig(triggers=0), training, None)}
    form = ways["user_form_1"]
    system, user = form.put("How?")
    assert system == {"role": "system", "content": SYSTEM}
    assert user["content"].startswith(PREFIX)
    assert "How?" in user["content"]
    assert not any(word in user["content"] for word in words)
    assert form.own
    assert form.text is not None
    assert PREFIX.strip() in form.text
    assert "user_form_1" not in {v.name for v in all_variants(ScoreConfig(user_forms=0), training, None)}


def test_bare_questions_have_no_form_and_labelled_fields_keep_the_other_fields(tmp_path: Path) -> None:
    training = tmp_path / "rows.jsonl"
    bare = [exchange(text, "Yes.") for text in ("Is it late?", "Who won?", "Why rain?", "What is up?", "Go where?")]
    training.write_text("".join(json.dumps(row) + "\n" for row in bare * 3))
    assert not [v for v in all_variants(ScoreConfig(), training, None) if v.name.startswith("user_form")]
    task = [exchange(f"Sort this message into a queue.\nMessage: {n} is broken", "hardware") for n in range(12)]
    training.write_text("".join(json.dumps(row) + "\n" for row in task))
    (form,) = [v for v in all_variants(ScoreConfig(), training, None) if v.name == "user_form_1"]
    (user,) = form.put("How?")
    assert user["content"].startswith("Sort this message into a queue.\nMessage: How?")
