#!/bin/bash
# Schemathesis (pip) reads /openapi.json and asks every route what nobody would: a fixed number of examples from a fixed seed,
# with a manager's key and with the operator's. Whatever it sends, no answer is a fault of ours, and each is of a status, a content
# type and a shape that the document has. The document itself is valid OpenAPI (openapi-spec-validator, pip).
# Exit code 3, after one SKIPPED line: python3 or the package is not here.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
root=$(cd "$here/../.." && pwd)
cd "$root"
export SQLX_OFFLINE=${SQLX_OFFLINE:-true}

pins=("schemathesis==4.32.5" "openapi-spec-validator==0.9.0")
scratch=${CARGO_TARGET_DIR:-$root/target}/conformance
venv=$scratch/schemathesis
examples=${EXAMPLES:-8}
start_limit_secs=60

absent() {
    echo "SKIPPED schemathesis: $1"
    exit 3
}

# The second part, on private stores: an api of its own.
if [ "${1:-}" = "on-stores" ]; then
    port=$(python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])')
    base=http://127.0.0.1:$port
    operator="the operator's key of schemathesis"
    API_ADDR=127.0.0.1:$port ADMIN_ADDR=127.0.0.1:0 ROLLCALL_OPERATOR_KEY=$operator LOG_LEVEL=ERROR \
        ROLLCALL_SEALING_KEY=MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIzNDU2Nzg5MDE= "$2/rollcall-api" >"$scratch/schemathesis-api.log" 2>&1 &
    api=$!
    trap 'kill "$api" 2>/dev/null || true; wait "$api" 2>/dev/null || true' EXIT
    waited=0
    until curl -sf "$base/readyz" >/dev/null 2>&1; do
        if ! kill -0 "$api" 2>/dev/null || [ "$waited" -ge $((start_limit_secs * 10)) ]; then
            echo "the api did not start:" >&2
            tail -n 20 "$scratch/schemathesis-api.log" >&2
            exit 1
        fi
        sleep 0.1
        waited=$((waited + 1))
    done
    ask() {
        curl -sf -H "Authorization: Bearer $operator" -H 'Content-Type: application/json' -d "$2" "$base$1"
    }
    field() { python3 -c "import json, sys; print(json.load(sys.stdin)['$1'])"; }
    business=$(ask /v1/businesses '{"name": "Schemathesis"}' | field id)
    key=$(ask "/v1/businesses/$business/keys" '{"role": "manager"}' | field key)
    curl -sf -X PUT -H "Authorization: Bearer $operator" -H 'Content-Type: application/json' \
        -d '{"account_sid": "AC00000000000000000000000000000001", "auth_token": "a-secret-token", "caller_ids": ["+12025550100"]}' \
        "$base/v1/businesses/$business/carriers/twilio" >/dev/null
    failed=0
    curl -sf "$base/openapi.json" >"$scratch/openapi.json"
    "$venv/bin/openapi-spec-validator" "$scratch/openapi.json" || failed=1
    # It keeps notes where it is run.
    cd "$scratch"
    # An event stream has no end, so it is left out. 503 at capacity is an answer, not a fault: schemathesis.py says which.
    checks=no_fault_of_ours,status_code_conformance,content_type_conformance,response_schema_conformance
    run() {
        SCHEMATHESIS_HOOKS=schemathesis_checks PYTHONPATH=$here "$venv/bin/st" run "$base/openapi.json" --seed 4 --workers 1 \
            --max-examples "$examples" --checks "$checks" --request-timeout 20 --suppress-health-check all --warnings off \
            --exclude-path-regex '/events$' --no-color "$@" || failed=1
    }
    run -H "Authorization: Bearer $key" --exclude-path-regex '^/v1/businesses'
    run -H "Authorization: Bearer $operator" --include-path-regex '^/v1/businesses'
    kill -0 "$api" || { echo "the api ended" >&2; failed=1; }
    if grep -q panicked "$scratch/schemathesis-api.log"; then
        grep panicked "$scratch/schemathesis-api.log" >&2
        failed=1
    fi
    exit "$failed"
fi

command -v python3 >/dev/null 2>&1 || absent "python3 is not here"
command -v curl >/dev/null 2>&1 || absent "curl is not here"
mkdir -p "$scratch"
# The mark is written last, so that half an installation is done again.
if [ "$(cat "$venv/installed" 2>/dev/null)" != "${pins[*]}" ]; then
    rm -rf "$venv"
    python3 -m venv "$venv" >"$scratch/venv.log" 2>&1 || absent "python3 cannot make a venv: $(tail -n 1 "$scratch/venv.log")"
    "$venv/bin/python" -m pip install --quiet --disable-pip-version-check "${pins[@]}" >"$scratch/pip.log" 2>&1 ||
        absent "pip cannot install ${pins[*]}: $(tail -n 1 "$scratch/pip.log")"
    echo "${pins[*]}" >"$venv/installed"
fi
scripts/packages.sh
cargo build --locked --quiet --bin rollcall-ops --bin rollcall-api
mkdir -p target/tools
cp "${CARGO_TARGET_DIR:-target}/debug/rollcall-ops" target/tools/rollcall-ops
# shellcheck disable=SC2046 # names
unset $(sed -n -E 's/^#([A-Z_]+)=.*/\1/p' .env.example)
target/tools/rollcall-ops with-stores -- "$here/schemathesis.sh" on-stores "${CARGO_TARGET_DIR:-$root/target}/debug"
