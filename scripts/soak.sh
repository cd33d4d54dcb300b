#!/usr/bin/env bash
# The kill tests with SOAK_KILLS kills each; the figures are printed.
set -euo pipefail
cargo build --locked --workspace --quiet
cargo test --locked --quiet -p tollway-e2e --test kill -- --nocapture
cargo test --locked --quiet -p tollway-agent --test agent twenty_kills -- --nocapture
