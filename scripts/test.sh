#!/usr/bin/env bash
# Runs every test and ends with one line: N passed, N failed.
set -uo pipefail
log=$(mktemp)
trap 'rm -f "$log"' EXIT
cargo build --locked --workspace --all-targets || { echo "0 passed, 1 failed"; exit 1; }
cargo test --locked --workspace --no-fail-fast 2>&1 | tee "$log"
status=${PIPESTATUS[0]}
# The last result of each test binary: one that starts itself again in a namespace prints several.
read -r passed failed < <(awk '
  /^ *(Running|Doc-tests) / { p += lp; f += lf; lp = lf = 0 }
  /^test result:/ { for (i = 2; i <= NF; i++) { if ($i ~ /^passed/) lp = $(i - 1); if ($i ~ /^failed/) lf = $(i - 1) } }
  END { print p + lp, f + lf }' "$log")
if [ "$status" -ne 0 ] && [ "$failed" -eq 0 ]; then failed=1; fi
grep -E '^skipped: ' "$log" | sort -u
echo "$passed passed, $failed failed"
[ "$failed" -eq 0 ]
