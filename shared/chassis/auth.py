"""Who calls, and what the caller may do: API keys with scopes. The service knows the digests of the keys only."""

import hashlib
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass

from fastapi import Request

from shared.chassis.problem import Problem
from shared.chassis.settings import ApiKey

EVERYTHING = "*"
"""The scope that holds all others."""


@dataclass(frozen=True, slots=True)
class Principal:
    """The caller.

    Attributes:
        name: for logs and audits.
        scopes: what it may do.
        source: the only CloudEvents source it may speak for; None for any.
    """

    name: str
    scopes: frozenset[str]
    source: str | None

    def may(self, scope: str) -> bool:
        """Whether the caller holds a scope."""
        return EVERYTHING in self.scopes or scope in self.scopes


class Keys:
    """The callers by the digest of their key: looked up by digest, so the time taken tells nothing of a key."""

    def __init__(self, keys: Sequence[ApiKey]) -> None:
        self._by_digest = {key.sha256: Principal(key.name, frozenset(key.scopes), key.source) for key in keys}

    def find(self, key: str) -> Principal | None:
        """The caller with this key."""
        return self._by_digest.get(hashlib.sha256(key.encode()).hexdigest())


def requires(scope: str) -> Callable[[Request], Awaitable[Principal]]:
    """A dependency that lets only callers with this scope in.

    Raises:
        Problem: 401 without a known key, 403 without the scope.
    """

    async def principal(request: Request) -> Principal:
        keys: Keys = request.app.state.keys
        header = request.headers.get("authorization", "")
        key = header[7:] if header[:7].lower() == "bearer " else request.headers.get("x-api-key", "")
        found = keys.find(key.strip()) if key else None
        if found is None:
            raise Problem(401, "Who is calling?", "Send a known API key as 'Authorization: Bearer <key>' or 'X-API-Key: <key>'.")
        if not found.may(scope):
            raise Problem(403, "Not allowed", f"This key does not hold the scope {scope}; ask the operator for it.")
        return found

    return principal
