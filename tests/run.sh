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

LOG=$(mktemp)
trap 'rm -f "$LOG"' EXIT

# run_tests ARGUMENTS...: runs tests; a target that fails is run once more, alone, because some deadlines do not survive two
# cores that compile and test at once. What fails twice fails the run.
run_tests() {
    local part again
    part=$(mktemp)
    if ! cargo test --no-fail-fast "$@" 2>&1 | tee "$part" | { grep -vE '^test .* \.\.\. ok$|^$|^running 0 tests' || true; }; then
        mapfile -t again < <(sed -n 's/^    `\(-p .*\)`$/\1/p' "$part" | sort -u)
        [ ${#again[@]} -gt 0 ] || fail "the tests could not be built"
        sed -i '/^test result: FAILED/d' "$part"
        for target in "${again[@]}"; do
            step "Once more, alone: $target"
            # shellcheck disable=SC2086 # the target is several words
            cargo test $target 2>&1 | tee -a "$part"
        done
    fi
    cat "$part" >>"$LOG"
    rm -f "$part"
}

step "unit, model and crate tests"
run_tests --workspace --exclude combo --lib --bins --tests
step "end-to-end tests"
run_tests --package combo

PASSED=$(sed -n 's/^test result: ok\. \([0-9]*\) passed;.*/\1/p' "$LOG" | paste -sd+ | bc)
SKIPPED=$(grep -c '^skipped: ' "$LOG" || true)
if [ "$SKIPPED" -gt 0 ] && [ "${COMBO_ALLOW_SKIP:-}" != 1 ]; then
    grep '^skipped: ' "$LOG"
    fail "$SKIPPED tests were skipped; COMBO_ALLOW_SKIP=1 allows it"
fi
echo "$PASSED passed, 0 failed, $SKIPPED skipped"
