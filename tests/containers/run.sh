#!/bin/bash
# Sees docker-compose.yml running: programs in several replicas behind nginx, and what happens to the stores. It needs an engine
# that builds (docker with compose 2.24 and buildx) and python3; without them it is one SKIPPED line. `run.sh programs`,
# `run.sh stores` or `run.sh production` does a part; AS_BUILT=1 takes the images that are there. Everything it makes is named
# rollcall-check and goes at the end; KEEP=1 leaves it.
set -uo pipefail
here=$(cd "$(dirname "$0")" && pwd) || exit 1
cd "$here/../.." || exit 1

absent() {
    echo "SKIPPED containers: $1"
    [ "${REQUIRE_ALL:-0}" != 1 ]
    exit
}
command -v python3 >/dev/null 2>&1 || absent "python3 is not here"
command -v docker >/dev/null 2>&1 || absent "docker is not here"
docker info >/dev/null 2>&1 || absent "no engine answers docker"
docker compose version >/dev/null 2>&1 || absent "docker compose is not here"
docker buildx version >/dev/null 2>&1 || absent "docker buildx is not here"

exec python3 -u "$here/trial.py" "$@"
