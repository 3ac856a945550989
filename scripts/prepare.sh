#!/bin/bash
# Writes .sqlx again from the migrations and the queries of the source, without what no query needs any more.
set -euo pipefail
cd "$(dirname "$0")/.."

scripts/packages.sh
# The program that starts the stores is built from the same source, with the queries' old data. Where a query changed, that
# fails, and the program of an earlier build does as well: it takes the schema from the migrations folder.
mkdir -p target/tools
if SQLX_OFFLINE=true cargo build --locked --quiet --bin rollcall-ops 2>target/prepare.log; then
    cp --remove-destination "${CARGO_TARGET_DIR:-target}/debug/rollcall-ops" target/tools/rollcall-ops
elif [ ! -x target/tools/rollcall-ops ]; then
    cat target/prepare.log >&2
    echo "Build once before the queries change (make check), so that there is a program to start the stores with." >&2
    exit 1
fi
target/tools/rollcall-ops with-stores --migrations migrations -- scripts/queries.sh target/sqlx-fresh
rm -rf .sqlx
mv target/sqlx-fresh .sqlx
echo ".sqlx holds $(find .sqlx -name 'query-*.json' | wc -l | tr -d ' ') queries."
