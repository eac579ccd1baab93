"""Models: the bases that jobs may start from, and the project's released fine-tuned models."""

from fastapi import APIRouter
from sqlalchemy.orm import Session

from api.auth import CallerDep
from api.context import ContextDep
from api.openapi import errors
from api.schemas.lists import Page
from api.schemas.models import Model, ModelDeleted
from service.db.models import Adapter
from service.db.repositories.adapters import AdapterRepository
from service.releases import withdraw_model
from tvaccine_core.errors import NotFound, PermissionDenied

router = APIRouter(prefix="/v1/models", tags=["models"])

# Names of bases and of models tuned from them may hold slashes, which clients send as %2F.
PATH = "/{model:path}"


@router.get("", summary="List models", responses=errors(401, 503))
def list_models(context: ContextDep, caller: CallerDep) -> Page[Model]:
    """All base models, then the released models of the project, newest first."""
    with context.read() as session:
        released = AdapterRepository(session, caller.project_id).list_released()
        tuned = [Model.of(adapter) for adapter in released]
    return Page(data=[*map(Model.base, context.settings.allowed_bases), *tuned])


@router.get(PATH, summary="Retrieve a model", responses=errors(401, 404, 503))
def retrieve(context: ContextDep, caller: CallerDep, model: str) -> Model:
    """One model."""
    if model in context.settings.allowed_bases:
        return Model.base(model)
    with context.read() as session:
        return Model.of(require_model(session, caller.project_id, model))


@router.delete(PATH, summary="Delete a fine-tuned model", responses=errors(401, 403, 404, 503))
def delete(context: ContextDep, caller: CallerDep, model: str) -> ModelDeleted:
    """Remove a released model of the project and its files. Base models cannot be deleted."""
    if model in context.settings.allowed_bases:
        raise PermissionDenied(f"{model} is a base model; only fine-tuned models can be deleted.", param="model")
    with context.write() as session:
        adapter = withdraw_model(session, caller.project_id, model, caller.key_id)
    if adapter is None:
        raise unknown_model(model)
    # Hidden first, then removed: nobody finds a model whose files are half gone.
    context.store.delete(adapter.storage_key)
    return ModelDeleted(id=model)


def require_model(session: Session, project_id: str, model: str) -> Adapter:
    """The released adapter with this name. Raises NotFound, for a model of another project too."""
    adapter = AdapterRepository(session, project_id).get_by_model(model)
    if adapter is None:
        raise unknown_model(model)
    return adapter


def unknown_model(model: str) -> NotFound:
    """The error for a name that no model of the project has."""
    words = f"There is no model {model[:100]!r} in this project."
    return NotFound(words, param="model", code="model_not_found")
