#!/usr/bin/env bash
# Installs what the tests need and runs them all. A skipped test fails the run unless COMBO_ALLOW_SKIP=1.
set -euo pipefail
cd "$(dirname "$0")/.."
. packaging/lib.sh

[ "$(id -u)" = 0 ] || fail "run it as root: the tests make namespaces, mounts and control groups"
need_toolchain
need_packages busybox-static containernetworking-plugins curl diffutils nftables iproute2 ca-certificates python3-venv util-linux

step "Tools: cargo-nextest, cargo-deny a stock kubectl, 1.36, and a stock etcd, 3.6"
PATH=$(tests/tools.sh tools)/bin:$PATH
export COMBO_KUBECTL=${COMBO_KUBECTL:-$(tests/kubectl.sh)}
"$COMBO_KUBECTL" version --client | sed -n 1p

COMBO_ETCD=${COMBO_ETCD:-$(tests/etcd.sh)}
export COMBO_ETCD

step "tidy"
cargo xtask tidy
step "fmt"
cargo fmt --all -- --check
step "licenses, banned crates, sources"
cargo deny --log-level error check bans licenses sources
step "clippy"
cargo clippy --workspace --all-targets --quiet -- -D warnings

LOG=$(mktemp)
ALONE=$(mktemp)
trap 'rm -f "$LOG" "$ALONE"' EXIT

# Those that need nothing but themselves have a process each. Its own file says what runs alone and what runs again.
step "unit, model and crate tests"
cargo nextest run --workspace -E 'not binary_id(combo::e2e)' 2>&1 | tee "$LOG"
PASSED=$(sed -n 's/^ *Summary .*: \([0-9]*\) passed.*/\1/p' "$LOG")
SKIPPED=$(grep -c 'skipped: ' target/nextest/default/junit.xml || true)

# Not by nextest: these share one server, which a process for each test would start and take down eighty times, and prove at
# the end that all of them together left nothing on the host. What fails runs once more, alone.
step "end-to-end tests"
if ! cargo test --package combo --test e2e 2>&1 | tee "$LOG"; then
    mapfile -t FAILED < <(sed -n 's/^test \([^ ]*\) *\.\.\. FAILED$/\1/p' "$LOG")
    [ ${#FAILED[@]} -gt 0 ] || fail "the end-to-end tests did not run to their end"
    for test in "${FAILED[@]}"; do
        step "Once more, alone: $test"
        cargo test --package combo --test e2e -- --exact "$test" 2>&1 | tee "$ALONE"
        grep -q '^test result: ok\. 1 passed;' "$ALONE" || fail "$test did not run again"
        echo "flaky: $test"
    done
    PASSED=$((PASSED + ${#FAILED[@]}))
fi
PASSED=$((PASSED + $(sed -n 's/^test result: .* \([0-9]*\) passed;.*/\1/p' "$LOG")))
SKIPPED=$((SKIPPED + $(grep -c '^skipped: ' "$LOG" || true)))

if [ "$SKIPPED" -gt 0 ] && [ "${COMBO_ALLOW_SKIP:-}" != 1 ]; then
    grep -h 'skipped: ' target/nextest/default/junit.xml "$LOG"
    fail "$SKIPPED tests were skipped; COMBO_ALLOW_SKIP=1 allows it"
fi
echo "$PASSED passed, 0 failed, $SKIPPED skipped"
