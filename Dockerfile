# Holdfast: one image for the API, the workers, the sandbox and every command.

FROM rust:1.95-bookworm AS build
WORKDIR /build

# The dependencies are a layer of their own, built with empty sources: it is built anew only when the manifests change.
# `devstack` is a member of the workspace and serves the tests only; Cargo wants its manifest and a target.
COPY Cargo.toml Cargo.lock ./
COPY devstack/Cargo.toml devstack/
RUN mkdir src devstack/src \
 && echo 'fn main() {}' > src/main.rs \
 && touch src/lib.rs devstack/src/lib.rs \
 && cargo build --release --locked

# Queries are checked against .sqlx: the build needs no database.
ENV SQLX_OFFLINE=true
COPY migrations migrations
COPY .sqlx .sqlx
COPY src src
# The copied files may be older than the empty ones that they replace; Cargo must not take them for built.
RUN touch src/main.rs src/lib.rs \
 && cargo build --release --locked

FROM debian:bookworm-slim
RUN apt-get update \
 && apt-get install --yes --no-install-recommends ca-certificates \
 && rm -rf /var/lib/apt/lists/* \
 && useradd --system --uid 10001 --user-group --no-create-home --home-dir / --shell /usr/sbin/nologin holdfast
COPY --from=build /build/target/release/holdfast /usr/local/bin/holdfast

# The loopback address of a container is reached by nobody.
ENV HOLDFAST__HTTP__BIND=0.0.0.0:8080 \
    HOLDFAST__SANDBOX__BIND=0.0.0.0:8090 \
    HOLDFAST__WORKER__BIND=0.0.0.0:8081 \
    HOLDFAST__TELEMETRY__FORMAT=json

USER 10001:10001
EXPOSE 8080 8081
# SIGTERM drains; a second one ends at once.
STOPSIGNAL SIGTERM
ENTRYPOINT ["holdfast"]
CMD ["api"]
