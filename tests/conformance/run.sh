#!/bin/sh
# Runs checks that need tools of other languages: `tests/conformance/run.sh twilio`, or all without a
# name. A tool that is absent is one SKIPPED line; with REQUIRE_ALL=1 it is a failure.
set -u

here=$(cd "$(dirname "$0")" && pwd) || exit 1
root=$(cd "$here/../.." && pwd) || exit 1
scratch="${CARGO_TARGET_DIR:-$root/target}/conformance"

skip() {
    echo "SKIPPED $1: $2"
    [ "${REQUIRE_ALL:-0}" = 1 ] && return 1
    return 0
}

# The binary that is judged; built unless CARRIER names one.
carrier() {
    if [ -n "${CARRIER:-}" ]; then
        echo "$CARRIER"
        return 0
    fi
    (cd "$root" && cargo build --quiet --bin rollcall-carrier >&2) || return 1
    echo "${CARGO_TARGET_DIR:-$root/target}/debug/rollcall-carrier"
}

twilio() {
    pin="twilio==9.13.0"
    venv="$scratch/twilio"
    if ! command -v python3 >/dev/null 2>&1; then
        skip twilio-python "python3 is not installed"
        return
    fi
    mkdir -p "$scratch"
    # The mark is written last, so that half an installation is done again.
    if [ "$(cat "$venv/installed" 2>/dev/null)" != "$pin" ]; then
        rm -rf "$venv"
        if ! python3 -m venv "$venv" >"$scratch/venv.log" 2>&1; then
            skip twilio-python "python3 cannot make a venv (see $scratch/venv.log)"
            return
        fi
        if ! "$venv/bin/python" -m pip install --quiet --disable-pip-version-check "$pin" >"$scratch/pip.log" 2>&1; then
            skip twilio-python "pip cannot install $pin (see $scratch/pip.log)"
            return
        fi
        echo "$pin" >"$venv/installed"
    fi
    binary=$(carrier) || return 1
    "$venv/bin/python" "$here/twilio_sandbox.py" "$binary"
}

failed=0
for check in ${*:-twilio}; do
    case "$check" in
        twilio) twilio || failed=1 ;;
        *)
            echo "no such check: $check" >&2
            failed=1
            ;;
    esac
done
exit "$failed"
