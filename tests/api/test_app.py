"""The app starts quickly, loads no model code, and touches nothing before it is asked."""

import resource
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
HEAVY = ("torch", "transformers", "peft", "sklearn", "accelerate", "numpy", "celery", "worker")


def python(program: str, home: Path) -> subprocess.CompletedProcess[str]:
    environment = {"HOME": str(home), "PATH": "/usr/bin:/bin"}
    return subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, cwd=ROOT, env=environment)


def cpu_seconds_of_children() -> float:
    """Not the time by the clock: that depends on what else the machine does."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def test_importing_the_app_is_quick_and_light(tmp_path: Path) -> None:
    python("import api.app", tmp_path)  # compiles what another test run has not compiled yet
    before = cpu_seconds_of_children()
    done = python(f"import api.app, sys; print([h for h in {(*HEAVY, 'alembic')!r} if h in sys.modules])", tmp_path)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == "[]"
    assert cpu_seconds_of_children() - before < 2


def test_every_module_of_the_room_loads_without_model_code(tmp_path: Path) -> None:
    files = sorted((ROOT / "api").rglob("*.py"))
    names = [".".join(file.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__") for file in files]
    assert len(names) > 25
    program = (
        f"import importlib, sys\nfor name in {names!r}:\n    importlib.import_module(name)\n"
        f"print([h for h in {HEAVY!r} if h in sys.modules])"
    )
    done = python(program, tmp_path)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == "[]"
    # Importing api.asgi makes no app: a server asks it for one.
    assert list(tmp_path.iterdir()) == []


def test_the_servers_app_is_made_once_when_asked_for(tmp_path: Path) -> None:
    program = "from api import asgi\nassert asgi.app is asgi.app\nprint(asgi.app.title)\nasgi.nothing"
    done = python(program, tmp_path)
    assert done.stdout.strip() == "tvaccine"
    assert "AttributeError" in done.stderr
