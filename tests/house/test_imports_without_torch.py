"""Every module of api, service and cli loads in a fresh interpreter without torch, transformers or peft."""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
HEAVY = ("torch", "transformers", "peft", "sklearn")
PROBE = """
import importlib, sys
importlib.import_module(sys.argv[1])
print(",".join(name for name in sys.argv[2].split(",") if name in sys.modules))
"""


def modules(room: str) -> list[str]:
    names = [".".join(f.relative_to(ROOT).with_suffix("").parts) for f in (ROOT / room).rglob("*.py")]
    return sorted(name.removesuffix(".__init__") for name in names)


@pytest.mark.parametrize("room", ["api", "service", "cli"])
def test_every_module_loads_without_torch(room: str) -> None:
    # One interpreter a room; the assertion after each import names the module that pulls torch in.
    program = "\n".join(
        [
            "import importlib, sys",
            f"heavy = {HEAVY!r}",
            f"for name in {modules(room)!r}:",
            "    importlib.import_module(name)",
            "    loaded = [h for h in heavy if h in sys.modules]",
            "    assert not loaded, f'{name} loads {loaded}'",
        ]
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 0, done.stderr[-800:]


def test_the_app_alone_loads_without_torch() -> None:
    done = subprocess.run(
        [sys.executable, "-c", PROBE, "api.app", ",".join(HEAVY)], capture_output=True, text=True, cwd=ROOT
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == ""
