import json
from pathlib import Path

import pytest

from bench.defences_table import HARM, PRICE, RESULTS, TABLES, Column, markdown
from bench.policies import markdown as policies_markdown

HEAD = "method,attack,ratio,strength,task,figure,unit,mean,low,high,seeds,interval,p_value"


def test_a_line_per_method_and_nothing_where_nothing_was_measured(tmp_path: Path) -> None:
    lines = [
        HEAD,
        "none at all,harmful_mixing,0.1,strong,sst2,harmful_score,%,92.46,88,95,1,wilson,",
        "SFT,harmful_mixing,0.1,strong,sst2,harmful_score,%,84.5,79,89,1,wilson,",
        "SFT,harmful_mixing,0.1,strong,sst2,harmful_score_before,%,2,1,5,1,wilson,",
        "SFT,harmful_mixing,0.1,middle,sst2,coherence,%,97.5,94,99,1,wilson,",
    ]
    (tmp_path / "table.csv").write_text("\n".join(lines), "utf-8")
    harm, price = (markdown(tmp_path, columns).splitlines() for columns in (HARM, PRICE))
    assert harm[2:] == ["| none at all |  |  |  |  |  | 92.5 |", "| SFT | 2.0 |  |  |  |  | 84.5 |"]
    assert price[3] == "| SFT |  |  |  | 97.5 |  |  |  |  |"


@pytest.mark.parametrize("table", TABLES, ids=["harm", "price", "equal time"])
def test_the_page_holds_the_tables_of_its_grids(table: tuple[Path, tuple[Column, ...]]) -> None:
    assert markdown(*table) in (RESULTS / "defences.md").read_text("utf-8")


def test_the_page_holds_the_table_of_the_policies() -> None:
    rows = json.loads((RESULTS / "policies.json").read_text("utf-8"))
    assert policies_markdown(rows) in (RESULTS / "defences.md").read_text("utf-8")
