#!/usr/bin/env bash
# Builds a static binary for a target on a Debian machine of either kind: cross/build.sh aarch64
#
#   cross/build.sh TARGET             as it is shipped, with the sample workload beside it
#   cross/build.sh TARGET check       compiles and links nothing
#   cross/build.sh TARGET debug       quick to build
set -euo pipefail
cd "$(dirname "$0")/.."
. packaging/lib.sh

TARGET=${1:-}
HOW=${2:-release}
case $TARGET in
    x86_64 | x86_64-unknown-linux-musl) ARCH=amd64 MACHINE=x86_64 TRIPLE=x86_64-linux-gnu ;;
    aarch64 | aarch64-unknown-linux-musl) ARCH=arm64 MACHINE=aarch64 TRIPLE=aarch64-linux-gnu ;;
    armv7*) fail "$TARGET: the runtime's library does not compile for 32-bit ARM; cross/README.md says how far it goes" ;;
    *) fail "a target is x86_64 or aarch64, not '$TARGET'" ;;
esac
TARGET=$MACHINE-unknown-linux-musl

need_toolchain
if [ "$(uname -m)" != "$MACHINE" ]; then
    # musl's headers for the other processor; its library and start files come with Rust's target.
    if ! dpkg --print-foreign-architectures | grep -qx "$ARCH"; then
        step "Debian's packages for $ARCH can be installed"
        dpkg --add-architecture "$ARCH"
        apt-get update -qq
    fi
    need_packages "gcc-${TRIPLE//_/-}" "musl-dev:$ARCH"
    # The C parts (SQLite, ring, mimalloc, zstd) are compiled against musl by the compiler for glibc. Calls of atomics that old
    # processors lack are written out: the library that would hold them is glibc's.
    VARIABLE=${TARGET//-/_}
    HEADERS=$("$TRIPLE-gcc" -print-file-name=include)
    FLAGS="-nostdinc -isystem /usr/include/$MACHINE-linux-musl -isystem $HEADERS -DMI_DEFAULT_ARENA_EAGER_COMMIT=0 -U_FORTIFY_SOURCE"
    [ "$MACHINE" != aarch64 ] || FLAGS="$FLAGS -mno-outline-atomics"
    export "CC_$VARIABLE=$TRIPLE-gcc" "AR_$VARIABLE=$TRIPLE-ar" "CFLAGS_$VARIABLE=$FLAGS"
    export "CARGO_TARGET_$(echo "$VARIABLE" | tr '[:lower:]' '[:upper:]')_LINKER=$TRIPLE-gcc"
    # This compiler looks for its linkers in its own folders; mold, which links for every processor, is in the common one.
    export "CARGO_TARGET_$(echo "$VARIABLE" | tr '[:lower:]' '[:upper:]')_RUSTFLAGS=-C link-arg=-fuse-ld=mold -C link-arg=-B/usr/bin"
fi
rustup target add "$TARGET" >/dev/null 2>&1 || fail "rustup cannot add the target $TARGET"
export CARGO_BUILD_TARGET=$TARGET

case $HOW in
    check) cargo check --package combo; exit ;;
    debug)
        cargo build --package combo --package testkit
        BINARY=target/$TARGET/debug/combo
        ;;
    release)
        # Developer tasks run here, whatever they build for.
        HOST=$(build_target)
        CARGO_BUILD_TARGET=$HOST cargo build --quiet --package xtask --target "$HOST"
        "target/$HOST/debug/xtask" descriptions
        "target/$HOST/debug/xtask" release --features combo/descriptions
        BINARY=target/$TARGET/release/combo
        ;;
    *) fail "'$HOW' is neither release, debug nor check" ;;
esac
step "$BINARY"
echo "    $(stat -c %s "$BINARY") bytes"
file "$BINARY" 2>/dev/null | sed 's/^/    /' || true
