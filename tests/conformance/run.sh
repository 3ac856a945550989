#!/bin/bash
# Checks that need other people's tools: `run.sh twilio`, `telnyx`, `voice`, `silero`, `prism`, `promtool`, `schemathesis`, or all without a name. A tool that is absent is
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

# The last line of a log, which is where the reason is.
last() { tail -n 1 "$1"; }

# A venv with these pinned packages: `venv NAME PACKAGE…`. Prints nothing where it is there.
venv() {
    local name=$1 folder="$scratch/$1" pins
    shift
    pins="$*"
    command -v python3 >/dev/null 2>&1 || { absent "$name" "python3 is not here"; return; }
    mkdir -p "$scratch" || return 1
    # The mark is written last, so that half an installation is done again.
    if [ "$(cat "$folder/installed" 2>/dev/null)" != "$pins" ]; then
        rm -rf "$folder"
        python3 -m venv "$folder" >"$scratch/venv.log" 2>&1 ||
            { absent "$name" "python3 cannot make a venv: $(last "$scratch/venv.log")"; return; }
        "$folder/bin/python" -m pip install --quiet --disable-pip-version-check "$@" >"$scratch/pip.log" 2>&1 ||
            { absent "$name" "pip cannot install $pins: $(last "$scratch/pip.log")"; return; }
        echo "$pins" >"$folder/installed"
    fi
}

# The official Python client of a carrier uses the sandbox, its validator judges the webhooks, and our verifier what it signs.
official() {
    local name=$1 python="$scratch/$1/bin/python"
    cargo build --locked --quiet --bin rollcall-carrier || return 1
    "$python" "$here/${name}_sandbox.py" "$target/debug/rollcall-carrier" || return 1
    "$python" "$here/signed.py" "$name" >"$scratch/$name-signed.json" || return 1
    SIGNED="$scratch/$name-signed.json" cargo test --locked --quiet --features conformance --test signed "$name"
}

twilio() { venv twilio "twilio==9.13.0" || return; official twilio; }
telnyx() { venv telnyx "telnyx==4.189.0" "pynacl==1.5.0" || return; official telnyx; }

# The voice providers' own Python clients use the sandbox's voice providers.
voice() {
    venv voice "openai==3.52.0" "deepgram-sdk==7.17.0" "elevenlabs==2.78.0" "websockets==17.4" || return
    cargo build --locked --quiet --bin rollcall-carrier || return 1
    "$scratch/voice/bin/python" "$here/voice_providers.py" "$target/debug/rollcall-carrier"
}

# Silero's own model, on onnxruntime's own library, tells the voices of many calls apart.
silero() {
    local library model
    venv silero "onnxruntime==1.31.1" || return
    # Its package wants torch, of which the model needs nothing.
    if [ ! -s "$scratch/silero/silero_vad.onnx" ]; then
        "$scratch/silero/bin/python" -m pip download --quiet --disable-pip-version-check --no-deps \
            --dest "$scratch/silero/wheels" "silero-vad==6.2.3" >"$scratch/pip.log" 2>&1 ||
            { absent silero "pip cannot fetch silero-vad: $(last "$scratch/pip.log")"; return; }
        "$scratch/silero/bin/python" "$here/silero_model.py" "$scratch/silero" || return 1
    fi
    library=$(find "$scratch/silero/lib" -name 'libonnxruntime.*' | head -n 1)
    [ -n "$library" ] || { absent silero "onnxruntime's package has no library for this machine"; return; }
    model=$scratch/silero/silero_vad.onnx
    ORT_DYLIB_PATH=$library SILERO_MODEL=$model cargo test --locked --quiet --features conformance,silero --test silero
}

# The carriers' own descriptions of their APIs judge every request of ours.
prism() { "$here/prism.sh"; }

# Prometheus' own tool reads the alert rules, fires each of them, and reads every query of the dashboard.
promtool() { "$here/promtool.sh"; }

# Whatever a stranger sends to any route of the document, no answer is a fault of ours.
schemathesis() { "$here/schemathesis.sh"; }

passed=0
failed=0
skipped=0
failures=
for check in ${*:-twilio telnyx voice silero prism promtool schemathesis}; do
    case "$check" in
    twilio | telnyx | voice | silero | prism | promtool | schemathesis) ;;
    *)
        echo "no such check: $check (twilio, telnyx, voice, silero, prism, promtool, schemathesis)" >&2
        exit 64
        ;;
    esac
    "$check"
    case $? in
    0) passed=$((passed + 1)) ;;
    3) skipped=$((skipped + 1)) ;;
    *) failed=$((failed + 1)) failures="${failures:+$failures, }$check" ;;
    esac
done
# By name in the last line: what is read of a long log is its end.
echo "conformance: $passed passed, $failed failed${failures:+ ($failures)}, $skipped skipped"
[ "$failed" = 0 ] || exit 1
[ "$skipped" = 0 ] || [ "${REQUIRE_ALL:-0}" != 1 ]
