#!/bin/bash
# queries.sh FOLDER: checks every query of every target against the schema, and writes what .sqlx holds into FOLDER.
# It is what `cargo sqlx prepare` does, without that tool: the macros of sqlx write their data where SQLX_OFFLINE_DIR says
# while they check a query at a database (sqlx-macros-core, query/mod.rs). Run it under `rollcall-ops with-stores --migrations migrations`.
set -euo pipefail
cd "$(dirname "$0")/.."
folder=$1

rm -rf "$folder"
mkdir -p "$folder" target/sqlx-tmp
# Absolute, because the macros run where cargo pleases.
folder=$(cd "$folder" && pwd)
# What cargo has checked before it does not check again, unless the file is newer.
find src tests benches -name '*.rs' -exec touch {} +
SQLX_OFFLINE=false SQLX_OFFLINE_DIR="$folder" SQLX_TMP="$PWD/target/sqlx-tmp" \
    cargo check --locked --quiet --all-targets --features killpoints
