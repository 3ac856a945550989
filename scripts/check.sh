#!/bin/bash
# Everything that reads the source without running it: format, lints, documentation, licences, freshness of .sqlx.
set -euo pipefail
cd "$(dirname "$0")/.."
export SQLX_OFFLINE=true
# The advisories are fetched from GitHub; where that cannot be reached, waiting longer does not help.
advisory_limit_secs=120

step() { printf '== %s\n' "$*"; }

step format
cargo fmt --check

step lints
cargo clippy --locked --all-targets -- -D warnings
cargo clippy --locked --all-targets --features killpoints -- -D warnings

step documentation
RUSTDOCFLAGS="-D warnings" cargo doc --locked --no-deps --document-private-items --quiet

step "queries: .sqlx is what the source and the migrations say"
scripts/packages.sh
cargo build --locked --bin rollcall-ops
mkdir -p target/tools
cp "${CARGO_TARGET_DIR:-target}/debug/rollcall-ops" target/tools/rollcall-ops
target/tools/rollcall-ops with-stores --migrations migrations -- scripts/queries.sh target/sqlx-fresh
if ! diff -rq .sqlx target/sqlx-fresh; then
    echo ".sqlx is stale: run make prepare and commit it." >&2
    exit 1
fi

step "licences, bans, sources"
deny=target/tools/bin/cargo-deny
if [ ! -x "$deny" ]; then
    # From the registry that cargo is set up with; built once.
    cargo install cargo-deny --version 0.20.2 --locked --quiet --root target/tools --target-dir target/tools/build
    rm -rf target/tools/build
fi
"$deny" --log-level warn check licenses bans sources

step advisories
# A time limit without coreutils' timeout, which macOS lacks.
"$deny" --log-level error fetch db >target/advisories.log 2>&1 &
fetch=$!
waited=0
while kill -0 "$fetch" 2>/dev/null && [ "$waited" -lt "$advisory_limit_secs" ]; do
    sleep 1
    waited=$((waited + 1))
done
if kill "$fetch" 2>/dev/null || ! wait "$fetch"; then
    echo "SKIPPED advisories: their database cannot be fetched now."
else
    "$deny" --log-level warn check --disable-fetch advisories
fi
