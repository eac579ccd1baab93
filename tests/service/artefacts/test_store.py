import hashlib
import io
from pathlib import Path

import pytest

from service.artefacts import durable
from service.artefacts.keys import check_key, check_name, new_key
from service.artefacts.store import WEIGHTS, ArtefactStore
from service.settings import Settings
from tvaccine_core.errors import Conflict, InvalidRequest, NotFound, PayloadTooLarge

BYTES = b"weights" * 1000
SHA256 = hashlib.sha256(BYTES).hexdigest()


def adapter_directory(path: Path, weights: bytes = BYTES) -> Path:
    path.mkdir()
    (path / WEIGHTS).write_bytes(weights)
    (path / "adapter_config.json").write_text("{}")
    return path


def leavings(settings: Settings) -> list[Path]:
    return list((settings.artefacts_dir / "temporary").iterdir())


def test_a_file_comes_back_as_it_was(store: ArtefactStore, settings: Settings) -> None:
    stored = store.put_file("uploads", io.BytesIO(BYTES))
    assert (stored.size, stored.sha256) == (len(BYTES), SHA256)
    assert store.read(stored.key) == BYTES
    assert store.exists(stored.key)
    assert leavings(settings) == []
    store.delete(stored.key)
    store.delete(stored.key)
    assert not store.exists(stored.key)
    with pytest.raises(NotFound):
        store.open(stored.key)


def test_too_large_a_file_leaves_nothing(store: ArtefactStore, settings: Settings) -> None:
    assert store.put_file("uploads", io.BytesIO(b"12345"), max_bytes=5).size == 5
    with pytest.raises(PayloadTooLarge):
        store.put_file("uploads", io.BytesIO(b"123456"), max_bytes=5)
    assert len(list((settings.artefacts_dir / "uploads").iterdir())) == 1
    assert leavings(settings) == []


def test_a_broken_stream_leaves_nothing(store: ArtefactStore, settings: Settings) -> None:
    class Broken(io.BytesIO):
        def read(self, size: int | None = -1) -> bytes:
            if self.tell() > 0:
                raise OSError("the client went away")
            return super().read(3)

    with pytest.raises(OSError, match="client"):
        store.put_file("uploads", Broken(b"123456"))
    assert leavings(settings) == list((settings.artefacts_dir / "uploads").iterdir()) == []


def test_a_tree_comes_back_as_it_was(store: ArtefactStore, tmp_path: Path) -> None:
    source = adapter_directory(tmp_path / "adapter")
    (source / "sub").mkdir()
    (source / "sub" / "report.json").write_text("{}")
    stored = store.put_tree("quarantine", source)
    assert stored.sha256 == SHA256
    assert stored.size == len(BYTES) + 4
    assert store.names(stored.key) == ["adapter_config.json", WEIGHTS, "sub/report.json"]
    assert store.read(stored.key, WEIGHTS) == BYTES
    with pytest.raises(NotFound):
        store.open(stored.key)
    with pytest.raises(NotFound):
        store.open(stored.key, "none")
    store.delete(stored.key)
    assert not store.exists(stored.key)


def test_links_and_odd_names_are_not_stored(store: ArtefactStore, settings: Settings, tmp_path: Path) -> None:
    source = adapter_directory(tmp_path / "adapter")
    (source / "link").symlink_to("/etc/passwd")
    with pytest.raises(InvalidRequest):
        store.put_tree("quarantine", source)
    (source / "link").unlink()
    (source / ".hidden").write_text("")
    with pytest.raises(InvalidRequest):
        store.put_tree("quarantine", source)
    assert leavings(settings) == []


@pytest.mark.parametrize(
    "key",
    [
        "",
        "uploads",
        "uploads/",
        "uploads/../x",
        "other/" + "0" * 26,
        "uploads/" + "0" * 25,
        "/etc/passwd",
        "uploads/" + "0" * 26 + "\n",
        "uploads/" + "U" * 26,
        "uploads/" + "0" * 26 + "/x",
    ],
)
def test_keys_that_are_not_ours_are_refused(store: ArtefactStore, key: str) -> None:
    for use in (store.path, store.read, store.exists, store.delete):
        with pytest.raises(InvalidRequest):
            use(key)
    with pytest.raises(InvalidRequest):
        store.release(key, SHA256)


def test_fresh_keys_are_ours() -> None:
    assert check_key(new_key("reports"), "reports")
    with pytest.raises(InvalidRequest):
        check_key(new_key("reports"), "released")
    assert check_name("a/b.json") == "a/b.json"
    for name in ("../x", "a/../../x", "/x", "a//b", ".x", "", "a\x00", "a\\b", "-x"):
        with pytest.raises(InvalidRequest):
            check_name(name)


def test_release_moves_exactly_what_was_scored(store: ArtefactStore, settings: Settings, tmp_path: Path) -> None:
    stored = store.put_tree("quarantine", adapter_directory(tmp_path / "adapter"))
    released = store.release(stored.key, SHA256)
    assert released.startswith("released/")
    assert store.read(released, WEIGHTS) == BYTES
    assert not store.exists(stored.key)
    assert store.release(stored.key, SHA256) == released
    assert leavings(settings) == []


def test_weights_that_were_not_scored_stay_in_quarantine(
    store: ArtefactStore, settings: Settings, tmp_path: Path
) -> None:
    stored = store.put_tree("quarantine", adapter_directory(tmp_path / "adapter", b"changed"))
    for wrong in (SHA256, ""):
        with pytest.raises(Conflict) as caught:
            store.release(stored.key, wrong)
        assert caught.value.code == "adapter_changed"
    assert list((settings.artefacts_dir / "released").iterdir()) == []
    assert store.exists(stored.key)
    with pytest.raises(NotFound):
        store.release(new_key("quarantine"), SHA256)


@pytest.mark.parametrize("step", ["copy_stream", "sync_tree", "publish", "file_sha256", "remove"])
def test_a_release_that_crashed_can_be_repeated(
    store: ArtefactStore, settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    class Crash(BaseException):
        pass

    def crash(*_: object) -> None:
        raise Crash

    stored = store.put_tree("quarantine", adapter_directory(tmp_path / "adapter"))
    with monkeypatch.context() as patch:
        patch.setattr(durable, step, crash)
        with pytest.raises(Crash):
            store.release(stored.key, SHA256)
    for key in (settings.artefacts_dir / "released").iterdir():  # never half an adapter
        assert (key / WEIGHTS).read_bytes() == BYTES
    released = store.release(stored.key, SHA256)
    assert store.names(released) == ["adapter_config.json", WEIGHTS]
    assert not store.exists(stored.key)


def test_what_crashed_writers_leave_is_swept(store: ArtefactStore, settings: Settings) -> None:
    (settings.artefacts_dir / "temporary" / "left").mkdir()
    (settings.artefacts_dir / "temporary" / "file").write_text("x")
    assert store.sweep_temporary() == 0
    assert store.sweep_temporary(older_than_seconds=-1) == 2
    assert leavings(settings) == []


def test_stored_files_are_private(store: ArtefactStore, settings: Settings) -> None:
    for directory in (settings.artefacts_dir / "uploads", settings.artefacts_dir / "temporary"):
        assert directory.stat().st_mode & 0o077 == 0
