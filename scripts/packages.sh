#!/bin/bash
# Finds Postgres (14 or later) and Redis (6.0 or later, or Valkey), or installs them by apt or Homebrew.
# Nothing else: no server is started, and one that runs already is not touched. For bash 3.2 and later.
set -euo pipefail

# The folders that `rollcall-ops` looks into as well (src/ops/binaries.rs).
postgres_folders="/usr/lib/postgresql/*/bin /usr/pgsql-*/bin /opt/homebrew/opt/postgresql*/bin
    /usr/local/opt/postgresql*/bin /home/linuxbrew/.linuxbrew/opt/postgresql*/bin"
redis_folders="/opt/homebrew/opt/redis/bin /opt/homebrew/opt/valkey/bin /usr/local/opt/redis/bin
    /usr/local/opt/valkey/bin /home/linuxbrew/.linuxbrew/opt/redis/bin /home/linuxbrew/.linuxbrew/opt/valkey/bin"

# major COMMAND: the first number behind ") " or "v=" of its --version, 0 without one.
major() {
    local number
    number=$("$1" --version 2>/dev/null | sed -n -E 's/.*(\) |v=)([0-9]+).*/\2/p' | head -n 1) || true
    echo "${number:-0}"
}

# has NAME OLDEST FOLDERS [COMPANION]: true where NAME is in PATH or a folder, new enough, with COMPANION beside it.
has() {
    local folder IFS=:
    for folder in $PATH; do
        usable "$folder" "$1" "$2" "${4:-$1}" && return 0
    done
    IFS=$' \t\n'
    for folder in $3; do
        usable "$folder" "$1" "$2" "${4:-$1}" && return 0
    done
    return 1
}

usable() {
    [ -x "$1/$2" ] && [ -x "$1/$4" ] && [ "$(major "$1/$2")" -ge "$3" ]
}

has_postgres() { has postgres 14 "$postgres_folders" initdb; }
has_redis() { has redis-server 6 "$redis_folders" || has valkey-server 6 "$redis_folders"; }

# Runs as root, with a policy that starts no service (exit 101: invoke-rc.d's "forbidden by policy") and a setting of
# Debian's packaging that makes no cluster, so that ports 5432 and 6379 stay as they are.
install_by_apt() {
    local packages="$1" policy=/usr/sbin/policy-rc.d clusters=/etc/postgresql-common/createcluster.d/rollcall.conf
    local made_policy=no made_clusters=no
    if [ ! -e "$policy" ]; then
        printf '#!/bin/sh\nexit 101\n' >"$policy"
        chmod 755 "$policy"
        made_policy=yes
    fi
    if [ ! -e "$clusters" ]; then
        mkdir -p "${clusters%/*}"
        echo "create_main_cluster = false" >"$clusters"
        made_clusters=yes
    fi
    # shellcheck disable=SC2064 # the paths as they are now
    trap "[ $made_policy = no ] || rm -f $policy; [ $made_clusters = no ] || rm -f $clusters" EXIT
    export DEBIAN_FRONTEND=noninteractive
    apt-get -o DPkg::Lock::Timeout=120 update -qq
    # shellcheck disable=SC2086 # a list of names
    apt-get -o DPkg::Lock::Timeout=120 install -y -qq --no-install-recommends $packages
}

# The same script as root, for the one step that needs it.
if [ "${1:-}" = --install-by-apt ]; then
    install_by_apt "$2"
    exit 0
fi

has_postgres && has_redis && exit 0

if command -v apt-get >/dev/null 2>&1; then
    missing=
    has_postgres || missing="postgresql"
    has_redis || missing="$missing redis-server"
    if [ "$(id -u)" -eq 0 ]; then
        "$0" --install-by-apt "$missing"
    elif command -v sudo >/dev/null 2>&1 && { sudo -n true 2>/dev/null || { [ -t 0 ] && [ -t 2 ]; }; }; then
        echo "Installing$(printf ' %s' $missing) by apt; sudo is used for this step only." >&2
        sudo "$0" --install-by-apt "$missing"
    else
        echo "Missing:$(printf ' %s' $missing). Run as root, then try again:" >&2
        echo "  $(cd "$(dirname "$0")" && pwd)/packages.sh --install-by-apt '$missing'" >&2
        exit 1
    fi
elif command -v brew >/dev/null 2>&1; then
    missing=
    has_postgres || missing="postgresql@16"
    has_redis || missing="$missing redis"
    # shellcheck disable=SC2086 # a list of names
    HOMEBREW_NO_AUTO_UPDATE=1 brew install $missing
else
    echo "Postgres 14 or later and Redis 6.0 or later (or Valkey) are needed; there is neither apt nor Homebrew here." >&2
    echo "Install them so that postgres, initdb and redis-server are in PATH, then try again." >&2
    exit 1
fi

if ! has_postgres || ! has_redis; then
    echo "What was installed is too old: Postgres 14 or later and Redis 6.0 or later (or Valkey) are needed." >&2
    exit 1
fi
