# The commands of the project. `make demo` and `make test` work on a fresh Debian or Ubuntu machine with Rust.

.PHONY: demo run bench test soak planted api-test lint sqlx check-sqlx schemas release-schemas setup build

# Replays 500 real orders through every process, on private servers, and shows that it adds up.
demo: build
	target/release/devstack run -- devstack/demo.sh demo

# The same system, kept serving, with a ready-made curl line.
run: build
	target/release/devstack run -- devstack/demo.sh serve

# How fast it is, beside bare PostgreSQL, on private servers: most of an hour, alone on the machine, and 15 GB of disk
# while it runs. TMPDIR names another disk; BENCH=--quick is a look of a few minutes.
BENCH = --growth 5000000
bench: build
	target/release/devstack run -- target/release/holdfast bench $(BENCH)

# Every test, on private servers. One more at a time than there are cores: many wait for what they have broken.
TEST_THREADS = $(shell expr $$(nproc) + 1)
test: setup
	devstack/stripe-mock.sh
	cargo test --workspace --locked -- --test-threads $(TEST_THREADS)

# Load, and a fault every few seconds, on private servers; then an account of it: target/soak/report.json. SEED decides which
# faults; without it, any. SOAK: more options, such as --zookeepers 3 --brokers 3 --rate 30.
MINUTES = 10
soak: setup
	cargo build --locked --bin holdfast --example soak
	target/debug/examples/soak --minutes $(MINUTES) $(if $(SEED),--seed $(SEED)) $(SOAK)

# Breaks the program on purpose, in each of several ways, and fails unless the tests find each.
planted: setup
	devstack/planted.sh

# The API against its own OpenAPI document, on private servers, with Schemathesis.
api-test: setup
	devstack/api-test.sh install
	cargo build --workspace --locked
	HOLDFAST=target/debug/holdfast target/debug/devstack run -- devstack/demo.sh api-test

# Format and lints; warnings are errors. The rules of the alerts are run against series that should and should not raise them.
lint: setup
	promtool check config ops/prometheus.yml
	promtool test rules ops/alerts_test.yml
	cargo fmt --all --check
	cargo clippy --workspace --all-targets --locked -- -D warnings
	RUSTDOCFLAGS='-D warnings' cargo doc --workspace --no-deps --locked --quiet

# Writes .sqlx, which lets the queries be checked without a database, anew.
sqlx: setup
	cargo run --locked --quiet -p devstack -- run --zookeeper 0 --rabbitmq 0 -- devstack/prepare-queries.sh .sqlx

# Fails if .sqlx is not what the queries and migrations say.
check-sqlx: setup
	cargo run --locked --quiet -p devstack -- run --zookeeper 0 --rabbitmq 0 -- devstack/prepare-queries.sh target/sqlx
	diff -r .sqlx target/sqlx

# Writes what is committed of events and their queues anew: the schemas, the examples and the files of docs/. Accepts a change that only adds; the tests
# refuse any other against tests/it/events/released. No locks: their settings have no defaults that are safe everywhere.
GOLDEN = tests/it/events/golden
HOLDFAST = HOLDFAST__LOCK__BACKEND=none cargo run --locked --quiet --
EVENTS = $(HOLDFAST) events
schemas:
	rm -rf $(GOLDEN)
	$(EVENTS) schemas $(GOLDEN)
	$(EVENTS) docs > docs/events.md
	$(HOLDFAST) topology policies > docs/rabbitmq-policies.sh

# For a release: from here on the schemas of today are what consumers rely on.
release-schemas: schemas
	cargo test --locked --test it events::
	rm -rf tests/it/events/released
	mkdir tests/it/events/released
	cp $(GOLDEN)/*.json tests/it/events/released

setup:
	devstack/install.sh

build: setup
	cargo build --workspace --release --locked
