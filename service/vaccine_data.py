"""The data a vaccine is made from: found by name or file id, judged, compared and kept with its digest."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from sqlalchemy.orm import Session

from service.artefacts.store import ArtefactStore
from service.db.repositories.files import FileRepository
from service.settings import Settings
from tvaccine_core.data.datasets import demo_file, file_digest, read_prompts
from tvaccine_core.data.overlap import require_disjoint
from tvaccine_core.data.rows import read_rows_file, require_valid
from tvaccine_core.errors import InvalidRequest, InvalidTrainingFile

ALIGNMENT, HARMFUL, GATE_PROMPTS = "alignment", "harmful", "gate_prompts"
ROLES = (ALIGNMENT, HARMFUL, GATE_PROMPTS)
DEMO = "demo"
_DEMO_NAMES = {ALIGNMENT: "alignment", HARMFUL: "probe", GATE_PROMPTS: "gate_prompts"}


@dataclass(frozen=True)
class Source:
    """One checked data set: where its bytes lie now, and their ``sha256:...``."""

    path: Path
    digest: str


def find_sources(
    session: Session,
    settings: Settings,
    project_id: str | None,
    files: Mapping[str, str | None] | None,
    *,
    shared: bool = False,
) -> dict[str, Source]:
    """The checked data sets by role.

    files: role -> an id of a file of the project, or ``demo``; what is left out comes from the settings.
    shared: let alignment and harmful rows ask the same; what the gate asks is in neither.
    Raises InvalidRequest and InvalidTrainingFile whose `param` is the request's field, and DatasetOverlap when two of
    the sets share a prompt.
    """
    asked = dict(files or {})
    for role in asked:
        if role not in ROLES:
            raise InvalidRequest(f"There is no file {role!r}. There are: {', '.join(ROLES)}.", param=f"{role}_file")
    paths = {role: _path(session, settings, project_id, role, asked.get(role)) for role in ROLES}
    prompts = {role: _prompts(role, path) for role, path in paths.items()}
    for apart in ((ALIGNMENT, GATE_PROMPTS), (HARMFUL, GATE_PROMPTS)) if shared else (ROLES,):
        require_disjoint({role: prompts[role] for role in apart})
    return {role: Source(path, file_digest(path)) for role, path in paths.items()}


def keep(settings: Settings, sources: Mapping[str, Source]) -> dict[str, str]:
    """Copy the data sets into the store; their keys by role. They outlive the files they were taken from."""
    store = ArtefactStore(settings.artefacts_dir)
    keys = {}
    for role, source in sources.items():
        with source.path.open("rb") as stream:
            stored = store.put_file("vaccines", stream)
        if f"sha256:{stored.sha256}" != source.digest:
            store.delete(stored.key)
            raise InvalidRequest(f"The file {role} changed while it was read. Ask again.", param=f"{role}_file")
        keys[role] = stored.key
    return keys


def _path(session: Session, settings: Settings, project_id: str | None, role: str, name: str | None) -> Path:
    configured: Mapping[str, Path | None] = {
        ALIGNMENT: settings.alignment_file,
        HARMFUL: settings.harmful_file,
        GATE_PROMPTS: settings.gate_prompts_file,
    }
    if name is None:
        return configured[role] or demo_file(_DEMO_NAMES[role])
    if name == DEMO:
        return demo_file(_DEMO_NAMES[role])
    file = None if project_id is None else FileRepository(session, project_id).get(name)
    if file is None:
        message = f"{role}: {name[:100]!r} is neither '{DEMO}' nor a file of this project. Upload it first."
        raise InvalidRequest(message, param=f"{role}_file", code="file_not_found")
    return ArtefactStore(settings.artefacts_dir).path(file.storage_key)


def _prompts(role: str, path: Path) -> list[str]:
    """The prompts of a data set, which is judged on the way."""
    try:
        if role != GATE_PROMPTS:
            require_valid(read_rows_file(path, min_rows=1))
        return [prompt.prompt for prompt in read_prompts(path)]
    except InvalidTrainingFile as error:
        raise InvalidTrainingFile(
            f"{role}: {error.message}", param=f"{role}_file", code=error.code, details=error.details
        ) from error
    except InvalidRequest as error:
        message = error.message.replace(path.name, role, 1)  # the stored name tells an operator nothing
        raise InvalidRequest(message, param=f"{role}_file", details=error.details) from error
    except OSError as error:
        message = f"{role}: the file cannot be read ({error.strerror}). Check the server's settings."
        raise InvalidRequest(message, param=f"{role}_file") from error
