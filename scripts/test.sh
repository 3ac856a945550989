#!/bin/bash
# Every test, on a private Postgres and Redis. Arguments go to the test runner, e.g. `scripts/test.sh -E 'test(claim)'`.
set -euo pipefail
cd "$(dirname "$0")/.."
export SQLX_OFFLINE=true

scripts/packages.sh
# The same profile as the demo's, so that both share what is compiled of other crates.
cargo build --locked --bin rollcall-ops --features killpoints
if cargo nextest --version >/dev/null 2>&1; then
    runner="nextest run"
else
    echo "cargo-nextest is absent: cargo test is used (slower; tests of one file share a process)."
    runner="test"
fi
# The tests set what they need: none of the settings that are exported here reaches them.
# shellcheck disable=SC2046 # names
unset $(sed -n -E 's/^#([A-Z_]+)=.*/\1/p' .env.example)
# A copy, because building the tests writes the program itself again.
mkdir -p target/tools
cp --remove-destination "${CARGO_TARGET_DIR:-target}/debug/rollcall-ops" target/tools/rollcall-ops
# shellcheck disable=SC2086 # two words
exec target/tools/rollcall-ops with-stores -- cargo $runner --locked --features killpoints "$@"
