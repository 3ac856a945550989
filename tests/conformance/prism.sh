#!/bin/bash
# Every request of the product is judged by Prism (npm) against Twilio's own OpenAPI file. Prism answers from the file's
# examples where a request fits, and with 4xx and the reasons where it does not. The tests are tests/conformance/prism.rs.
# Exit code 3, after one SKIPPED line: the file, npm or the package is not here.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
root=$(cd "$here/../.." && pwd)
cd "$root"
export SQLX_OFFLINE=true

prism_version=5.14.2
contract=${CONTRACTS:-$root/../shared/contracts}/twilio_calls.strict.openapi.json
scratch=${CARGO_TARGET_DIR:-$root/target}/conformance
folder=$scratch/prism
start_limit_secs=60

absent() {
    echo "SKIPPED prism: $1"
    exit 3
}

[ -f "$contract" ] || absent "Twilio's OpenAPI file is not here (CONTRACTS names its folder)"
command -v node >/dev/null 2>&1 && command -v npm >/dev/null 2>&1 || absent "node and npm are not here"

mkdir -p "$scratch"
prism=$folder/node_modules/.bin/prism
if [ "$("$prism" --version 2>/dev/null)" != "$prism_version" ]; then
    npm install --prefix "$folder" --no-save --no-audit --no-fund --loglevel=error "@stoplight/prism-cli@$prism_version" \
        >"$scratch/prism-install.log" 2>&1 || absent "npm cannot install @stoplight/prism-cli@$prism_version (see $scratch/prism-install.log)"
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

# One of the tests is a run on real stores. The tests set what they need: no exported setting reaches them.
scripts/packages.sh
cargo build --locked --quiet --bin rollcall-ops
mkdir -p target/tools
cp "${CARGO_TARGET_DIR:-target}/debug/rollcall-ops" target/tools/rollcall-ops
# shellcheck disable=SC2046 # names
unset $(sed -n -E 's/^#([A-Z_]+)=.*/\1/p' .env.example)
PRISM_URL=http://127.0.0.1:$port target/tools/rollcall-ops with-stores -- \
    cargo test --locked --quiet --features conformance --test prism
