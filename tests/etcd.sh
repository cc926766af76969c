#!/usr/bin/env bash
# Prints the path of a stock etcd that servers can share, built from its Go module the first time.
set -euo pipefail
VERSION=v3.6.8
CACHE=${XDG_CACHE_HOME:-$HOME/.cache}/combo-tests
BINARY=$CACHE/etcd-$VERSION

if [ ! -x "$BINARY" ]; then
    export PATH=$PATH:/usr/local/go/bin
    if ! command -v go >/dev/null; then
        GO=$("$(dirname "$0")/tools.sh" go)
        PATH=$PATH:$(echo "$GO"/lib/python3*/site-packages/go/bin)
    fi
    WORK=$(mktemp -d)
    trap 'rm -rf "$WORK"' EXIT
    mkdir -p "$CACHE"
    cd "$WORK"
    # Only what a module names can be built outside of it.
    cat >tools.go <<'GO'
//go:build tools

package tools

import _ "go.etcd.io/etcd/server/v3"
GO
    cat >go.mod <<MOD
module etcd

go 1.24

require go.etcd.io/etcd/server/v3 $VERSION
MOD
    GOFLAGS=-mod=mod GOTOOLCHAIN=${GOTOOLCHAIN:-auto} CGO_ENABLED=0 go build -trimpath \
        -ldflags "-s -w" -o "$BINARY.new" go.etcd.io/etcd/server/v3 >&2
    mv "$BINARY.new" "$BINARY"
fi
echo "$BINARY"
