# One image for api, worker, calls and operations. `--target sandbox` makes another: the pretend carrier, which the first lacks.

# Everything of other people, in a layer of its own: it is built again only when Cargo.toml or Cargo.lock changes.
FROM rust:1.95-bookworm AS dependencies
WORKDIR /rollcall
COPY Cargo.toml Cargo.lock ./
# Empty programs in the places that Cargo.toml names; what was compiled of them is thrown away again.
RUN --mount=type=cache,target=/usr/local/cargo/registry \
    mkdir -p src/bin && touch src/lib.rs \
    && for program in $(sed -n 's/^path = "\(src\/.*\)"$/\1/p' Cargo.toml); do echo 'fn main() {}' > "$program"; done \
    && cargo build --locked --release --bins \
    && cargo clean --locked --release --package rollcall \
    && rm -rf src

FROM dependencies AS build
COPY . .
# Offline: the checked queries are in .sqlx.
RUN --mount=type=cache,target=/usr/local/cargo/registry \
    SQLX_OFFLINE=true cargo build --locked --release --bins \
    && mkdir /programs \
    && cd target/release && cp rollcall-api rollcall-worker rollcall-calls rollcall-ops rollcall-carrier /programs/
# Line tables are six times the programs themselves; the names of functions stay, for backtraces.
RUN strip --strip-debug /programs/*

FROM debian:bookworm-slim AS ground
RUN apt-get update \
    && DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends ca-certificates \
    && rm -rf /var/lib/apt/lists/* /var/cache/apt /var/log/apt /var/log/dpkg.log \
    && useradd --system --uid 10001 --no-create-home --shell /usr/sbin/nologin rollcall
USER 10001

FROM ground AS sandbox
COPY --from=build /programs/rollcall-carrier /usr/local/bin/
CMD ["rollcall-carrier", "--addr", "0.0.0.0:8070"]

FROM ground AS production
COPY deploy/with-secrets /usr/local/bin/
COPY --from=build /programs/rollcall-api /programs/rollcall-worker /programs/rollcall-calls /programs/rollcall-ops \
    /usr/local/bin/
ENTRYPOINT ["with-secrets"]
CMD ["rollcall-ops", "--help"]
