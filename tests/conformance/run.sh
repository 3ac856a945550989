#!/bin/bash
# Checks that need other people's tools: `run.sh twilio`, `run.sh voice`, `run.sh prism`, `run.sh promtool`, or all without a name. A tool that is absent is
# one SKIPPED line; with REQUIRE_ALL=1 it is a failure. The last line counts the checks. For bash 3.2 and later.
set -uo pipefail
here=$(cd "$(dirname "$0")" && pwd) || exit 1
root=$(cd "$here/../.." && pwd) || exit 1
cd "$root" || exit 1
export SQLX_OFFLINE=true
target=${CARGO_TARGET_DIR:-$root/target}
scratch=$target/conformance

# A check returns 3 where its tool is not here, after one line that says so.
absent() {
    echo "SKIPPED $1: $2"
    return 3
}

# Installs packages from PyPI for a check of this name, in a place of its own: `packages NAME PIN...`.
packages() {
    local name="$1" venv="$scratch/$1"
    shift
    command -v python3 >/dev/null 2>&1 || { absent "$name" "python3 is not here"; return; }
    mkdir -p "$scratch" || return 1
    # The mark is written last, so that half an installation is done again.
    if [ "$(cat "$venv/installed" 2>/dev/null)" != "$*" ]; then
        rm -rf "$venv"
        python3 -m venv "$venv" >"$scratch/venv.log" 2>&1 ||
            { absent "$name" "python3 cannot make a venv (see $scratch/venv.log)"; return; }
        "$venv/bin/python" -m pip install --quiet --disable-pip-version-check "$@" >"$scratch/pip.log" 2>&1 ||
            { absent "$name" "pip cannot install $* (see $scratch/pip.log)"; return; }
        echo "$*" >"$venv/installed"
    fi
    cargo build --locked --quiet --bin rollcall-carrier || return 1
}

# The official Python client uses the sandbox carrier, and its validator judges the callbacks.
twilio() {
    packages twilio twilio==9.13.0 || return
    "$scratch/twilio/bin/python" "$here/twilio_sandbox.py" "$target/debug/rollcall-carrier"
}

# The voice providers' own Python clients use the sandbox's voice providers.
voice() {
    packages voice openai==3.52.0 deepgram-sdk==7.17.0 elevenlabs==2.78.0 websockets==17.4 || return
    "$scratch/voice/bin/python" "$here/voice_providers.py" "$target/debug/rollcall-carrier"
}

# Twilio's own description of its API judges every request of ours.
prism() { "$here/prism.sh"; }

# Prometheus' own tool reads the alert rules, fires each of them, and reads every query of the dashboard.
promtool() { "$here/promtool.sh"; }

passed=0
failed=0
skipped=0
for check in ${*:-twilio voice prism promtool}; do
    case "$check" in
    twilio | voice | prism | promtool) ;;
    *)
        echo "no such check: $check (twilio, voice, prism, promtool)" >&2
        exit 64
        ;;
    esac
    "$check"
    case $? in
    0) passed=$((passed + 1)) ;;
    3) skipped=$((skipped + 1)) ;;
    *) failed=$((failed + 1)) ;;
    esac
done
echo "conformance: $passed passed, $failed failed, $skipped skipped"
[ "$failed" = 0 ] || exit 1
[ "$skipped" = 0 ] || [ "${REQUIRE_ALL:-0}" != 1 ]
