#!/bin/bash
# Everything that reads the source without running it: format, lints, documentation, licences, freshness of .sqlx.
# Every part is done, also after one that failed. `check.sh queries licences` does only those.
set -euo pipefail
cd "$(dirname "$0")/.."
export SQLX_OFFLINE=true
deny=target/tools/bin/cargo-deny
# The advisories are fetched from GitHub; where that cannot be reached, waiting longer does not help.
advisory_limit_secs=120

format() { cargo fmt --check; }

# With the features too: what only tests compile is read as well, and what they must not leave out.
lints() {
    cargo clippy --locked --all-targets -- -D warnings &&
        cargo clippy --locked --all-targets --all-features -- -D warnings
}

documentation() { RUSTDOCFLAGS="-D warnings" cargo doc --locked --no-deps --document-private-items --quiet; }

# .sqlx is what the queries of the source say of the schema of the migrations.
queries() {
    scripts/packages.sh && cargo build --locked --bin rollcall-ops || return
    mkdir -p target/tools
    cp --remove-destination "${CARGO_TARGET_DIR:-target}/debug/rollcall-ops" target/tools/rollcall-ops
    target/tools/rollcall-ops with-stores --migrations migrations -- scripts/queries.sh target/sqlx-fresh || return
    diff -rq .sqlx target/sqlx-fresh || {
        echo ".sqlx is stale: run make prepare and commit it."
        return 1
    }
}

licences() {
    if [ ! -x "$deny" ]; then
        # From the registry that cargo is set up with; built once.
        cargo install cargo-deny --version 0.20.2 --locked --quiet --root target/tools \
            --target-dir target/tools/build || return
        rm -rf target/tools/build
    fi
    "$deny" --log-level warn check licenses bans sources
}

# Never fails for the lack of a network.
advisories() {
    local fetch waited=0
    [ -x "$deny" ] || return 0
    "$deny" --log-level error fetch db >target/advisories.log 2>&1 &
    fetch=$!
    # A time limit without coreutils' timeout, which macOS lacks.
    while kill -0 "$fetch" 2>/dev/null && [ "$waited" -lt "$advisory_limit_secs" ]; do
        sleep 1
        waited=$((waited + 1))
    done
    if kill "$fetch" 2>/dev/null || ! wait "$fetch"; then
        echo "SKIPPED advisories: their database cannot be fetched now."
    else
        "$deny" --log-level warn check --disable-fetch advisories
    fi
}

failed=
for part in ${*:-format lints documentation queries licences advisories}; do
    echo "== $part"
    "$part" || failed="$failed $part"
done
if [ -n "$failed" ]; then
    echo "FAILED:$failed" >&2
    exit 1
fi
