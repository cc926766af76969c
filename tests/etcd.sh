#!/usr/bin/env bash
# Prints the path of a stock etcd that servers can share, built from its Go module the first time.
set -euo pipefail
NAME=etcd
VERSION=v3.6.8
. "$(dirname "$0")/go_tool.sh"

sources() {
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
}

build() {
    go build -trimpath -ldflags "-s -w" -o "$1" go.etcd.io/etcd/server/v3
}

built_once
