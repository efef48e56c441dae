#!/usr/bin/env bash
# Holds a running API to its OpenAPI document, with Schemathesis: every operation, every check, all phases.
#
#   api-test.sh install      puts the pinned version into target/, once
#   api-test.sh run URL      tests the API at URL with the key in HOLDFAST_API_KEY, whose id is HOLDFAST_API_KEY_ID
#
# SEED makes other requests, or the same again. Everything else stands in schemathesis.toml.
set -euo pipefail
cd "$(dirname "$0")/.."

version=4.32.5
venv=target/schemathesis-$version

case $1 in
install)
    [ ! -x "$venv/bin/schemathesis" ] || exit 0
    python3 -m venv "$venv"
    "$venv/bin/pip" install --quiet --disable-pip-version-check "schemathesis==$version"
    ;;
run)
    PYTHONDONTWRITEBYTECODE=1 "$venv/bin/schemathesis" --config-file devstack/schemathesis.toml \
        run "$2/openapi.json" --url "$2" --header "Authorization: Bearer $HOLDFAST_API_KEY" \
        --checks all --phases examples,coverage,fuzzing,stateful --seed "${SEED:-20261123}"
    ;;
esac
