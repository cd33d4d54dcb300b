#!/usr/bin/env bash
# Runs every test and ends with one line: N passed, N failed.
set -uo pipefail
log=$(mktemp)
trap 'rm -f "$log"' EXIT
cargo build --locked --workspace --all-targets || { echo "0 passed, 1 failed"; exit 1; }
cargo test --locked --workspace --no-fail-fast 2>&1 | tee "$log"
status=${PIPESTATUS[0]}
passed=$(grep -oE '[0-9]+ passed' "$log" | awk '{ n += $1 } END { print n + 0 }')
failed=$(grep -oE '[0-9]+ failed' "$log" | awk '{ n += $1 } END { print n + 0 }')
if [ "$status" -ne 0 ] && [ "$failed" -eq 0 ]; then failed=1; fi
grep -E '^skipped: ' "$log" | sort -u
echo "$passed passed, $failed failed"
[ "$failed" -eq 0 ]
