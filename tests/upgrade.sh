#!/bin/sh
# Upgrades a server and an agent in place from an earlier build to this one and back: pods keep their processes.
#
#   tests/upgrade.sh COMMIT                    builds the binary of COMMIT first
#   COMBO_PREVIOUS=/path/combo tests/upgrade.sh
#
# COMBO_E2E_BINARY is the build to upgrade to; without it cargo builds one.
set -eu
cd "$(dirname "$0")/.."

target=x86_64-unknown-linux-musl
if [ -z "${COMBO_PREVIOUS:-}" ]; then
    commit=$(git rev-parse --verify "${1:?say a commit, or COMBO_PREVIOUS=BINARY}^{commit}")
    tree=$PWD/target/previous/$commit
    COMBO_PREVIOUS=$tree/target/$target/release/combo
    if [ ! -x "$COMBO_PREVIOUS" ]; then
        mkdir -p "$tree"
        git archive "$commit" | tar -x -C "$tree"
        (cd "$tree" && cargo build --release --package combo)
    fi
fi
echo "from $("$COMBO_PREVIOUS" --version), $COMBO_PREVIOUS"
COMBO_KUBECTL=${COMBO_KUBECTL:-$(tests/kubectl.sh)} COMBO_E2E_PREVIOUS=$COMBO_PREVIOUS \
    cargo test --package combo --test e2e -- upgrade::
