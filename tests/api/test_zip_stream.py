"""The zip that is made while it is sent."""

import io
import zipfile
from pathlib import Path

import pytest

from api import zip_stream as module
from api.zip_stream import zip_stream


def test_files_come_back_as_they_were_in_pieces(tmp_path: Path) -> None:
    contents = {"b/weights.bin": bytes(range(256)) * 4000, "a.json": b"{}", "empty": b""}
    for name, data in contents.items():
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(data)
    pieces = list(zip_stream([(name, tmp_path / name) for name in contents]))
    assert len(pieces) > 4
    assert max(map(len, pieces)) < 2 * module.CHUNK
    with zipfile.ZipFile(io.BytesIO(b"".join(pieces))) as archive:
        assert archive.testzip() is None
        assert {name: archive.read(name) for name in archive.namelist()} == contents


def test_the_same_files_give_the_same_bytes(tmp_path: Path) -> None:
    path = tmp_path / "weights.bin"
    path.write_bytes(b"x" * 10)
    first = b"".join(zip_stream([("weights.bin", path)]))
    path.touch()
    assert b"".join(zip_stream([("weights.bin", path)])) == first


def test_a_file_beyond_the_zip32_limit_is_marked_as_such(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(zipfile, "ZIP64_LIMIT", 100)
    path = tmp_path / "weights.bin"
    path.write_bytes(b"x" * 200)
    data = b"".join(zip_stream([("weights.bin", path)]))
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        assert archive.read("weights.bin") == b"x" * 200
