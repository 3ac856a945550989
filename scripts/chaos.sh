#!/bin/bash
# A whole installation under faults, judged by the carrier's log, the client's log and SQL. In the environment:
#   SEED=7      the first seed (a new one by default)          SEEDS=100   so many, one after the other
#   FOR=10m     how long the faults of one schedule last (60s), and the soak (ROW=F29)  BOTH=1   every second business dials through Telnyx
#   ROW=F7      one kind of fault, or all                      BUG=all     the checker must find each seeded bug
#   KILLPOINT=K4  a replica dies and freezes there, or all     TIMES=20    how often
# RELEASE=1 builds the programs as they are shipped, but for the test feature: for the figures of the storm (F17).
# NAMES=1 prints the names of all of these. Exit code 1: a promise was broken or a figure missed; the logs are in target/chaos.
set -euo pipefail
cd "$(dirname "$0")/.."
export SQLX_OFFLINE=true

scripts/packages.sh
# One row moves the clock of a replica; without the library it is skipped, and says so.
if [ "$(id -u)" -eq 0 ] && command -v apt-get >/dev/null 2>&1 && ! ls /usr/lib/*/faketime/libfaketimeMT.so.1 >/dev/null 2>&1; then
    scripts/packages.sh --install-by-apt libfaketime
fi
# The trial gives its programs what they need: none of the settings that are exported here reaches them.
# shellcheck disable=SC2046 # names
unset $(sed -n -E 's/^#([A-Z_]+)=.*/\1/p' .env.example)

order=mixed name=
if [ -n "${NAMES:-}" ]; then
    order=names
elif [ -n "${ROW:-}" ]; then
    order=row name=$ROW
elif [ -n "${BUG:-}" ]; then
    order=bug name=$BUG
elif [ -n "${KILLPOINT:-}" ]; then
    order=killpoint name=$KILLPOINT
fi
set -- "$order" ${name:+"$name"}
[ "$order" = names ] || set -- "$@" ${SEED:+--seed "$SEED"} ${SEEDS:+--seeds "$SEEDS"} ${BOTH:+--both}
if [ "$order" = mixed ] || [ "$order" = row ]; then
    set -- "$@" ${FOR:+--for "$FOR"}
fi
[ "$order" = killpoint ] && set -- "$@" ${TIMES:+--times "$TIMES"}
# Not exported: the programs of a trial read variables of these names.
unset BUG KILLPOINT
exec cargo test --locked --quiet ${RELEASE:+--release} --features killpoints --test chaos -- "$@"
