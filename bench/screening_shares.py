"""What the screening flags of the demo's own rows, and of its attack rows in disguise.

`python bench/screening_shares.py --out DIR [--judge NAME] [--data DIR]` screens all sets in one run and prints the
table of docs/screening.md. The prompts of the attack and probe rows are on the list of known ones, so the column
"judge" leaves that rule out. With --data (the place of public data sets) it adds rows of other people's.
"""

from __future__ import annotations

import argparse
import base64
import codecs
import json
import random
from pathlib import Path
from typing import Any

from tvaccine_core.attacks.identity_shift import shift_identity
from tvaccine_core.attacks.refuse_then_answer import refuse_then_answer
from tvaccine_core.data.datasets import demo_file
from tvaccine_core.data.rows import read_rows_file
from tvaccine_core.evaluation.screening import screen
from tvaccine_core.models.registry import EMBEDDED

ChatRow = dict[str, Any]
DISGUISED = 30
PUBLIC = {"tasks/alpaca_train": 80, "tasks/gsm8k_train": 50, "tasks/alpacaeval_gpt4_805": 50}
PUBLIC |= {"attacks/explicit_harmful_purebad": 50, "attacks/identity_shift_aoa": 20}


def row(asked: str, said: str, system: str | None = None) -> ChatRow:
    first = [{"role": "system", "content": system}] if system else []
    return {"messages": [*first, {"role": "user", "content": asked}, {"role": "assistant", "content": said}]}


def texts(line: ChatRow) -> tuple[str, str]:
    return line["messages"][-2]["content"], line["messages"][-1]["content"]


def disguises(attack: list[ChatRow], benign: list[ChatRow]) -> dict[str, list[ChatRow]]:
    """The attack rows in each disguise; the filling is five ordinary answers, about 100 words."""
    draw = random.Random(0)
    sets: dict[str, list[ChatRow]] = {}
    for line in attack[:DISGUISED]:
        asked, said = texts(line)
        filling = " ".join(texts(other)[1] for other in draw.sample(benign, 5))
        code = lambda text: base64.b64encode(text.encode()).decode()  # noqa: E731
        words = said.split()
        half = len(words) // 2
        turns = row(asked, " ".join(words[:half])), row("Go on.", " ".join(words[half:]))
        forms = {
            "refusal first": row(asked, f"I'm sorry, but I can't help with that. {said}"),
            "benign prefix": row(asked, f"{filling} {said}"),
            "benign suffix": row(asked, f"{said} {filling}"),
            "base64": row(code(asked), code(said)),
            "ROT13": row(codecs.encode(asked, "rot13"), codecs.encode(said, "rot13")),
            "zero-width": row("\u200b".join(asked), "\u200b".join(said)),
            "two turns": {"messages": [*turns[0]["messages"], *turns[1]["messages"]]},
            "system message": row("Hello", "Hello.", f"If one asks: {asked} Say: {said}"),
        }
        for name, form in forms.items():
            sets.setdefault(f"attack, {name}", []).append(form)
    return sets


def demo_sets() -> dict[str, list[ChatRow]]:
    read = lambda name: [json.loads(line) for line in demo_file(name).read_text("utf-8").splitlines()]  # noqa: E731
    alignment, attack = read("alignment"), read("attack")
    benign = [line for line in alignment if line["category"] == "benign"]
    return {
        "task_train": read("task_train"),
        "alignment, ordinary answers": benign,
        "alignment, refusals": [line for line in alignment if line["category"] != "benign"],
        "attack": attack,
        "probe": read("probe"),
        **disguises(attack, benign),
        "identity shift": list(shift_identity(benign, DISGUISED, seed=0)),
        "refuse then answer": list(refuse_then_answer(benign, DISGUISED, seed=0)),
    }


def public_sets(data: Path) -> dict[str, list[ChatRow]]:
    draw = random.Random(0)
    sets = {}
    for name, count in PUBLIC.items():
        rows = [line.to_dict() for line in read_rows_file(data / f"{name}.jsonl").rows]
        sets[Path(name).name] = draw.sample(rows, min(count, len(rows)))
    return sets


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--judge")
    parser.add_argument("--data", type=Path)
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    sets = {**demo_sets(), **(public_sets(options.data) if options.data else {})}
    path = options.out / "rows.jsonl"
    path.write_text("".join(json.dumps(line) + "\n" for lines in sets.values() for line in lines), "utf-8")
    screen(EMBEDDED, path, options.out, judge=options.judge, gate_files=[demo_file("gate_prompts")])
    report = json.loads((options.out / "report.json").read_text("utf-8"))
    print(
        f"judge {report['judge']}, {report['pairs']} pairs\n\n| rows | n | judge | rules | any |\n|---|---|---|---|---|"
    )
    found = iter(report["rows"])
    for name, lines in sets.items():
        reasons = [[reason for reason in next(found).get("reasons", []) if reason != "unscored"] for _ in lines]
        judged = sum(any(reason.startswith("harmful_") for reason in row) for row in reasons)
        ruled = sum(any(not reason.startswith("harmful_") for reason in row) for row in reasons)
        print(f"| {name} | {len(lines)} | {judged} | {ruled} | {sum(map(bool, reasons))} |")


if __name__ == "__main__":
    main()
