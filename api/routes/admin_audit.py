"""What administrators and the service did, for admins."""

from fastapi import APIRouter, Depends

from api.auth import administrator
from api.context import ContextDep
from api.openapi import errors
from api.pagination import After, Limit, page
from api.schemas.audit import AuditEntry
from api.schemas.lists import Page
from service.db.repositories.audit import AdminAuditRepository

router = APIRouter(prefix="/v1/admin/audit", tags=["admin"], dependencies=[Depends(administrator)])


@router.get("", summary="List the audit trail", responses=errors(400, 401, 403, 503))
def list_entries(context: ContextDep, after: After = None, limit: Limit = 20) -> Page[AuditEntry]:
    """Vaccinations, activations, keys, deletions, and who read what a model said to harmful prompts; newest first."""
    with context.read() as session:
        return page(AdminAuditRepository(session).list(after=after, limit=limit + 1), limit, AuditEntry.of)
