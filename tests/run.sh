#!/usr/bin/env bash
# Installs what the tests need and runs them all. A skipped test fails the run unless COMBO_ALLOW_SKIP=1.
set -euo pipefail
cd "$(dirname "$0")/.."
. packaging/lib.sh

[ "$(id -u)" = 0 ] || fail "run it as root: the tests make namespaces, mounts and control groups"
need_toolchain
need_packages bc busybox-static curl diffutils nftables iproute2 ca-certificates
rustup component list --installed | grep -q clippy || rustup component add clippy rustfmt

step "A stock kubectl, 1.36"
export COMBO_KUBECTL=${COMBO_KUBECTL:-$(tests/kubectl.sh)}
"$COMBO_KUBECTL" version --client | head -1

step "tidy"
cargo xtask tidy
step "fmt"
cargo fmt --all -- --check
step "clippy"
cargo clippy --workspace --all-targets --quiet -- -D warnings

step "unit, model and crate tests"
LOG=$(mktemp)
trap 'rm -f "$LOG"' EXIT
cargo test --workspace --exclude combo 2>&1 | tee "$LOG" | grep -vE '^test .* ok$|^$|^running 0 tests|Doc-tests' 

step "e2e tests"
cargo test --package combo 2>&1 | tee -a "$LOG"

PASSED=$(sed -n 's/^test result: .* \([0-9]*\) passed;.*/\1/p' "$LOG" | paste -sd+ | bc)
SKIPPED=$(grep -c '^skipped: ' "$LOG" || true)
if [ "$SKIPPED" -gt 0 ] && [ "${COMBO_ALLOW_SKIP:-}" != 1 ]; then
    grep '^skipped: ' "$LOG"
    fail "$SKIPPED tests were skipped; COMBO_ALLOW_SKIP=1 allows it"
fi
echo "$PASSED passed, 0 failed, $SKIPPED skipped"
