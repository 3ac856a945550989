# One image for api, worker and operations. `--target sandbox` adds the pretend carrier, which the last target lacks.
FROM rust:1.95-bookworm AS build
WORKDIR /rollcall
COPY . .
# Offline: the checked queries are in .sqlx.
RUN --mount=type=cache,target=/usr/local/cargo/registry --mount=type=cache,target=/rollcall/target \
    SQLX_OFFLINE=true cargo build --locked --release --bins \
    && mkdir /programs \
    && cp target/release/rollcall-api target/release/rollcall-worker target/release/rollcall-ops \
        target/release/rollcall-carrier /programs/

FROM debian:bookworm-slim AS ground
RUN apt-get update \
    && DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends ca-certificates \
    && rm -rf /var/lib/apt/lists/* \
    && useradd --system --no-create-home rollcall
USER rollcall

FROM ground AS sandbox
COPY --from=build /programs/ /usr/local/bin/
CMD ["rollcall-carrier", "--addr", "0.0.0.0:8070"]

FROM ground AS production
COPY --from=build /programs/rollcall-api /programs/rollcall-worker /programs/rollcall-ops /usr/local/bin/
CMD ["rollcall-ops", "--help"]
