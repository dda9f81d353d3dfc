"""The administrator: who can read the token's file, which only the user who runs the daemon can."""

from __future__ import annotations

import hmac

from starlette.requests import Request

from foundry_lite.errors import NotAllowed
from foundry_lite.server.admin.builds import TOKEN_FILE, Builds


def require_token(request: Request, builds: Builds, need: str) -> None:
    """Refuse a request without the token; ``need`` begins the sentence. Raises `NotAllowed`."""
    given = request.headers.get("authorization", "").removeprefix("Bearer ").strip()
    if not hmac.compare_digest(given.encode(), builds.token.encode()):
        raise NotAllowed(
            f"{need} the administrator's token",
            hint=f"Send 'Authorization: Bearer …' with the content of {TOKEN_FILE} in the daemon's home folder.",
        )
