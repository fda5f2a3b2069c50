"""Passwords and keys of a stack: random, made once, readable by its owner only."""

import hashlib
import json
import secrets
from dataclasses import asdict, dataclass, field

from deploy.local.layout import SERVICES, Layout


@dataclass(frozen=True)
class Secrets:
    """What nobody else may know."""

    superuser_password: str = field(default_factory=lambda: secrets.token_hex(24))
    passwords: dict[str, str] = field(default_factory=lambda: {service: secrets.token_hex(24) for service in SERVICES})
    pseudonym_key: str = field(default_factory=lambda: secrets.token_hex(32))
    api_key: str = field(default_factory=lambda: secrets.token_urlsafe(32))

    @property
    def api_keys(self) -> str:
        """The setting that lets the stack's one key in, everywhere."""
        digest = hashlib.sha256(self.api_key.encode()).hexdigest()
        return json.dumps([{"name": "local-admin", "sha256": digest, "scopes": ["*"]}])


def made(layout: Layout) -> bool:
    """Whether the folder is a stack: its secrets are the first thing that is made."""
    return (layout.root / "secrets.json").exists()


def of(layout: Layout) -> Secrets:
    """The stack's secrets; made the first time."""
    path = layout.root / "secrets.json"
    if path.exists():
        return Secrets(**json.loads(path.read_text()))
    layout.root.mkdir(parents=True, exist_ok=True)
    found = Secrets()
    fresh = path.with_suffix(".new")
    fresh.unlink(missing_ok=True)
    fresh.touch(mode=0o600)
    fresh.write_text(json.dumps(asdict(found), indent=2))
    fresh.rename(path)
    return found
