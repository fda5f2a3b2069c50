#!/bin/sh
# The command `hocvu`; bootstrap.sh links it into .venv/bin. It runs from anywhere, on the project it lies in.
root=$(cd "$(dirname "$(readlink -f "$0")")/../.." && pwd) || exit 1
PYTHONPATH="$root${PYTHONPATH:+:$PYTHONPATH}" exec "$root/.venv/bin/python" -P -m deploy.hocvu "$@"
