#!/bin/bash
# Every request of the product is judged by Prism (npm) against the carriers' own OpenAPI files. Prism answers from a file's
# examples where a request fits, and with 4xx and the reasons where it does not. The tests are tests/conformance/prism.rs.
# Exit code 3, after one SKIPPED line: a file, npm or the package is not here.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
root=$(cd "$here/../.." && pwd)
cd "$root"
export SQLX_OFFLINE=true

prism_version=5.14.2
contracts=${CONTRACTS:-$root/../shared/contracts}
scratch=${CARGO_TARGET_DIR:-$root/target}/conformance
folder=$scratch/prism
start_limit_secs=60

absent() {
    echo "SKIPPED prism: $1"
    exit 3
}

for file in twilio_calls.strict.openapi.json telnyx_calls.openapi.json; do
    [ -f "$contracts/$file" ] || absent "$file is not here (CONTRACTS names its folder)"
done
command -v node >/dev/null 2>&1 && command -v npm >/dev/null 2>&1 || absent "node and npm are not here"

mkdir -p "$scratch"
prism=$folder/node_modules/.bin/prism
if [ "$("$prism" --version 2>/dev/null)" != "$prism_version" ]; then
    npm install --prefix "$folder" --no-save --no-audit --no-fund --loglevel=error "@stoplight/prism-cli@$prism_version" \
        >"$scratch/prism-install.log" 2>&1 || absent "npm cannot install @stoplight/prism-cli@$prism_version: $(tail -n 1 "$scratch/prism-install.log")"
fi

# Telnyx's file is cut to the operations on calls; those on speech and recordings stand beside this script.
telnyx=$scratch/telnyx.openapi.json
node -e 'const [whole, more] = process.argv.slice(1).map((path) => JSON.parse(require("fs").readFileSync(path)));
Object.assign(whole.paths, more.paths); console.log(JSON.stringify(whole));' \
    "$contracts/telnyx_calls.openapi.json" "$here/telnyx_more.openapi.json" >"$telnyx"

servers=()
trap 'kill "${servers[@]}" 2>/dev/null || true; wait "${servers[@]}" 2>/dev/null || true' EXIT

# Starts one Prism: `serve NAME CONTRACT`; its address is in $url.
serve() {
    local log=$scratch/prism-$1.log server port waited=0
    # A port that is free now; node is here anyway.
    port=$(node -e 'const s = require("net").createServer(); s.listen(0, "127.0.0.1", () => { console.log(s.address().port); s.close(); })')
    "$prism" mock --host 127.0.0.1 --port "$port" --errors "$2" >"$log" 2>&1 &
    server=$!
    servers+=("$server")
    until grep -q "Prism is listening" "$log"; do
        if ! kill -0 "$server" 2>/dev/null || [ "$waited" -ge $((start_limit_secs * 10)) ]; then
            echo "prism did not start:" >&2
            tail -n 20 "$log" >&2
            exit 1
        fi
        sleep 0.1
        waited=$((waited + 1))
    done
    url=http://127.0.0.1:$port
}
serve twilio "$contracts/twilio_calls.strict.openapi.json"
twilio_url=$url
serve telnyx "$telnyx"
telnyx_url=$url

# One of the tests is a run on real stores. The tests set what they need: no exported setting reaches them.
scripts/packages.sh
cargo build --locked --quiet --bin rollcall-ops
mkdir -p target/tools
cp "${CARGO_TARGET_DIR:-target}/debug/rollcall-ops" target/tools/rollcall-ops
# shellcheck disable=SC2046 # names
unset $(sed -n -E 's/^#([A-Z_]+)=.*/\1/p' .env.example)
PRISM_URL=$twilio_url PRISM_TELNYX_URL=$telnyx_url target/tools/rollcall-ops with-stores -- \
    cargo test --locked --quiet --features conformance --test prism
