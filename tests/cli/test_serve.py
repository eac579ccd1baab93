import json
import os
import subprocess
import sys
from pathlib import Path


def tvaccine(data_dir: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    env = dict(os.environ) | {"TVACCINE_DATA_DIR": str(data_dir)}
    command = [sys.executable, "-m", "cli.main", *arguments]
    return subprocess.run(command, capture_output=True, text=True, env=env, check=False)


def test_migrate_prints_the_first_admin_key_once(tmp_path: Path) -> None:
    first = json.loads(tvaccine(tmp_path, "migrate", "--json").stdout.splitlines()[-1])
    second = json.loads(tvaccine(tmp_path, "migrate", "--json").stdout.splitlines()[-1])
    assert first["admin_key"].startswith("tv-")
    assert second == {"migrated": True, "admin_key": None}
