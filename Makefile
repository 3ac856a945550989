# The two commands of a fresh machine are `make demo` and `make test`. Each prepares what it needs itself.
.PHONY: demo test check bench bench-voice chaos conformance containers fuzz prepare

# Offline: the checked queries are read from .sqlx, so that no database is needed to build.
export SQLX_OFFLINE := true

# KEEP=1 leaves it running until Ctrl-C; KILL=1 kills the worker in the middle.
demo:
	@scripts/packages.sh
	@cargo build --locked --bins
	@exec "$${CARGO_TARGET_DIR:-target}/debug/rollcall-ops" demo

test:
	@scripts/test.sh

check:
	@scripts/check.sh

# The figures, one table. CASES="A D" for some of them. Linux only: CPU and memory are read from /proc.
bench:
	@scripts/packages.sh
	@cargo bench --locked --bench figures -- $(CASES)

# What conversations cost: CASES="full churn cuts" SESSIONS=1000 SECS=30 SEED=1. SESSIONS=100 for a quick look.
bench-voice:
	@scripts/packages.sh
	@cargo bench --locked --bench voice -- $(CASES) $(if $(SESSIONS),--sessions $(SESSIONS)) $(if $(SECS),--secs $(SECS)) $(if $(SEED),--seed $(SEED))

# A whole installation under faults: SEED=7 FOR=10m SEEDS=100 ROW=F7 BUG=all KILLPOINT=K4 (scripts/chaos.sh says more).
chaos:
	@scripts/chaos.sh

# Tests against other people's tools: fetched by pip and npm, and Prometheus' promtool. A missing tool is SKIPPED; with REQUIRE_ALL=1 it fails.
conformance:
	@tests/conformance/run.sh

# docker-compose.yml seen running, in several replicas and with other stores under it. SKIPPED where no engine answers.
containers:
	@tests/containers/run.sh

# What strangers send, as bytes that nobody thought of: a minute for each reader. SECS=600 for longer.
fuzz:
	@scripts/fuzz.sh

# After a change of a query or of the schema: writes .sqlx again.
prepare:
	@scripts/prepare.sh
