#!/bin/bash
# Prometheus' own tool (Debian package `prometheus`; no server is started) checks the configuration, lets every alert fire
# and stay quiet as alerts_test.yml says, and reads every query of the Grafana dashboard as a rule.
# Exit code 3, after one SKIPPED line: promtool is not here.
set -euo pipefail
cd "$(dirname "$0")/../.."
scratch=${CARGO_TARGET_DIR:-target}/conformance

command -v promtool >/dev/null 2>&1 || {
    echo "SKIPPED promtool: it is not here (apt-get install prometheus)"
    exit 3
}
promtool check config deploy/prometheus/prometheus.yml
promtool test rules deploy/prometheus/alerts_test.yml

mkdir -p "$scratch"
rules=$scratch/dashboard.yml
{
    echo "groups: [{name: dashboard, rules: ["
    # One query a line; what Grafana puts in for its interval is a time.
    grep -o '"expr": "\([^"\\]\|\\.\)*"' deploy/grafana/rollcall.json |
        sed -e 's/\$__rate_interval/1m/g' -e 's/.*/{record: "query:each", labels: {line: "LINE"}, &},/' |
        awk '{ gsub(/LINE/, NR); print }'
    echo "]}]"
} >"$rules"
promtool check rules "$rules"
