#!/bin/bash
# Feeds the readers of what strangers send with bytes that reach new code: a minute each (SECS), or those that are named.
# cargo-fuzz with --sanitizer none needs no nightly: coverage is a stable pass, and there is no unsafe code of ours that a
# sanitizer could catch. What once broke something is kept in fuzz/corpus by name and is fed again first.
# Exit code 3, after one SKIPPED line: cargo-fuzz cannot be installed here.
set -euo pipefail
cd "$(dirname "$0")/.."
export SQLX_OFFLINE=${SQLX_OFFLINE:-true}
version=0.13.2
tool=target/tools/bin/cargo-fuzz
secs=${SECS:-60}

if [ ! -x "$tool" ]; then
    # From the registry that cargo is set up with; built once.
    cargo install cargo-fuzz --version "$version" --locked --quiet --root target/tools --target-dir target/tools/build || {
        echo "SKIPPED fuzz: cargo cannot install cargo-fuzz $version"
        exit 3
    }
    rm -rf target/tools/build
fi
targets=${*:-twilio_form twilio_signature lead_csv call_state token}
failed=
for target in $targets; do
    corpus=target/fuzz/corpus/$target
    mkdir -p "$corpus" "fuzz/corpus/$target"
    echo "== $target, $secs s"
    # The first folder takes what is new; the second is only read.
    "$tool" run --fuzz-dir fuzz --target-dir target/fuzz --sanitizer none --release "$target" \
        "$corpus" "fuzz/corpus/$target" -- -max_total_time="$secs" -rss_limit_mb=512 -timeout=10 -max_len=16384 \
        -print_final_stats=1 -verbosity=0 -artifact_prefix="target/fuzz/$target-" || failed="$failed $target"
done
if [ -n "$failed" ]; then
    echo "FAILED:$failed (the bytes are in target/fuzz; keep them in fuzz/corpus with the fix)" >&2
    exit 1
fi
