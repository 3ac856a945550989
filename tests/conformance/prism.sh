#!/bin/bash
# prism.sh COMMAND…: runs a command with PRISM_URL set to a Prism that validates requests against Twilio's own OpenAPI file.
# Prism (npm) answers 201 from the file's examples where a request fits, and 4xx with the reasons where it does not.
# Without the file, npm or the package it prints one SKIPPED line and runs nothing; with REQUIRE_ALL=1 that is a failure.
set -euo pipefail
cd "$(dirname "$0")/../.."

prism_version=5.14.2
contract=${TWILIO_OPENAPI:-../shared/contracts/twilio_calls.strict.openapi.json}
scratch=${CARGO_TARGET_DIR:-$PWD/target}/conformance
folder=$scratch/prism
start_limit_secs=60

skip() {
    echo "SKIPPED prism: $1"
    [ "${REQUIRE_ALL:-0}" = 1 ] && exit 1
    exit 0
}

[ -f "$contract" ] || skip "$contract is not here (TWILIO_OPENAPI names another place)"
command -v node >/dev/null 2>&1 && command -v npm >/dev/null 2>&1 || skip "node and npm are not here"

mkdir -p "$scratch"
prism=$folder/node_modules/.bin/prism
if [ "$("$prism" --version 2>/dev/null)" != "$prism_version" ]; then
    npm install --prefix "$folder" --no-save --no-audit --no-fund --loglevel=error "@stoplight/prism-cli@$prism_version" \
        >"$scratch/prism-install.log" 2>&1 || skip "npm cannot install @stoplight/prism-cli@$prism_version"
fi

# A port that is free now; node is here anyway.
port=$(node -e 'const s = require("net").createServer(); s.listen(0, "127.0.0.1", () => { console.log(s.address().port); s.close(); })')
log=$scratch/prism.log
"$prism" mock --host 127.0.0.1 --port "$port" --errors "$contract" >"$log" 2>&1 &
server=$!
trap 'kill "$server" 2>/dev/null || true; wait "$server" 2>/dev/null || true' EXIT

waited=0
until grep -q "Prism is listening" "$log"; do
    if ! kill -0 "$server" 2>/dev/null || [ "$waited" -ge $((start_limit_secs * 10)) ]; then
        echo "prism did not start:" >&2
        tail -n 20 "$log" >&2
        exit 1
    fi
    sleep 0.1
    waited=$((waited + 1))
done
PRISM_URL=http://127.0.0.1:$port "$@"
