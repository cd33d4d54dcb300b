# The same commands locally and in CI. Each installs what is missing and says so; only cargo is expected.
.DEFAULT_GOAL := help
SHELL := /bin/bash
CARGO_MIN := 1.95
DEMO_OUT := target/demo

.PHONY: help deps demo test check bench soak sim fmt bless

help:
	@echo "make demo    one paid transfer end to end, real kernel rules in namespaces, and its bill"
	@echo "make test    every test: unit, simulation, kernel, end to end"
	@echo "make check   format, lints, documentation, the edges of the crate graph"
	@echo "make bench   ratios, side by side in one run"
	@echo "make soak    200 kills of the broker under load, and 200 of the agent"

deps:
	@bash scripts/deps.sh $(CARGO_MIN)

demo: deps
	@echo "building tollway and tollway-agent (minutes, the first time)"
	@cargo build --locked --quiet -p tollway -p tollway-agent
	@bash scripts/demo.sh $(DEMO_OUT)

test: deps
	@bash scripts/test.sh

check: deps
	cargo fmt --all --check
	cargo clippy --locked --workspace --all-targets --quiet -- -D warnings
	RUSTDOCFLAGS="-D warnings" cargo doc --locked --workspace --no-deps --quiet
	@bash scripts/style.sh

bench: deps
	@cargo run --locked --release --quiet -p tollway-bench

soak: deps
	@SOAK_KILLS=200 bash scripts/soak.sh

sim: deps
	@cargo run --locked --quiet -p tollway-sim -- --seeds 0..256

fmt:
	cargo fmt --all

bless:
	UPDATE_EXPECT=1 UPDATE_GOLDEN=1 cargo test --locked --workspace
