"""Who is calling: a bearer key becomes a project and a role."""

from dataclasses import dataclass
from typing import Annotated

from fastapi import Depends
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer

from api.context import ContextDep
from service.keys import authenticate
from tvaccine_core.errors import PermissionDenied, Unauthenticated

BEARER = HTTPBearer(
    auto_error=False, scheme_name="bearer", description="A key that `tvaccine keys create` printed: `tv-...`."
)


@dataclass(frozen=True)
class Caller:
    """The holder of a valid key."""

    project_id: str
    role: str
    key_id: str

    @property
    def is_admin(self) -> bool:
        """Admins operate the server: vaccines, keys, full safety reports."""
        return self.role == "admin"


Credentials = Annotated[HTTPAuthorizationCredentials | None, Depends(BEARER)]


def authenticated(context: ContextDep, credentials: Credentials) -> Caller:
    """The caller. Raises Unauthenticated for a missing, wrong or revoked key."""
    if credentials is None:
        raise Unauthenticated("Send your API key in the header 'Authorization: Bearer <key>'.")
    # A transaction of its own: a stranger takes no write lock, and an upload holds none while it streams.
    with context.read() as session:
        key = authenticate(session, credentials.credentials)
    if key is None:
        raise Unauthenticated("The API key is wrong or was revoked. Ask the server's operator for a new one.")
    return Caller(project_id=key.project_id, role=key.role, key_id=key.id)


CallerDep = Annotated[Caller, Depends(authenticated)]


def administrator(caller: CallerDep) -> Caller:
    """The caller, who must be an admin. Raises PermissionDenied."""
    if not caller.is_admin:
        raise PermissionDenied("This route needs a key with the role admin.")
    return caller


AdminDep = Annotated[Caller, Depends(administrator)]
