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
    export PYTHONDONTWRITEBYTECODE=1 HYPOTHESIS_STORAGE_DIRECTORY=$venv/hypothesis
    "$venv/bin/schemathesis" --config-file devstack/schemathesis.toml \
        run "$2/openapi.json" --url "$2" --header "Authorization: Bearer $HOLDFAST_API_KEY" \
        --checks all --phases examples,coverage,fuzzing,stateful --seed "${SEED:-20261123}" | tee "$venv/last-run.txt"
    # What could not be sent is no failure to Schemathesis, nor what was not tested because the time was over.
    if grep -qE '[0-9]+ errored' "$venv/last-run.txt"; then
        echo "some requests were not sent: see the errors above" >&2
        exit 1
    fi
    if ! grep -qE 'API Links: +[1-9][0-9]* covered' "$venv/last-run.txt"; then
        echo "no link was walked: max-time in devstack/schemathesis.toml is too short for this machine" >&2
        exit 1
    fi
    ;;
esac
