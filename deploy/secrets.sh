#!/bin/sh
# Make deploy/.env for compose: random passwords and keys, readable by you only. Does nothing when it is there.
set -eu
cd "$(dirname "$0")"
[ -e .env ] && exit 0

random() { # bytes: hexadecimal
    od -An -N "$1" -tx1 /dev/urandom | tr -d ' \n'
}

umask 077
api_key=$(random 32)
digest=$(printf '%s' "$api_key" | sha256sum | cut -d' ' -f1)
{
    echo "# Made by deploy/secrets.sh. Lose PSEUDONYM_KEY and every person becomes a new one: keep a copy in a safe place."
    echo "POSTGRES_PASSWORD=$(random 24)"
    for service in ENROLLMENT ASSESSMENT REPORTING NOTIFICATIONS; do
        echo "${service}_PASSWORD=$(random 24)"
    done
    echo "PSEUDONYM_KEY=$(random 32)"
    echo "# The key to send: 'Authorization: Bearer <key>'. The services know its hash only."
    echo "API_KEY=$api_key"
    echo "API_KEYS='[{\"name\":\"compose-admin\",\"sha256\":\"$digest\",\"scopes\":[\"*\"]}]'"
} >.env.new
mv .env.new .env
echo "deploy/.env is made; the API key in it is API_KEY"
