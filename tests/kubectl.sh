#!/usr/bin/env bash
# Prints the path of a stock kubectl of the version that we serve, built from its Go module the first time.
set -euo pipefail
VERSION=v1.36.2
CACHE=${XDG_CACHE_HOME:-$HOME/.cache}/combo-tests
BINARY=$CACHE/kubectl-$VERSION

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
    # k8s.io/kubectl is a library; the command is a few lines around it.
    cat >main.go <<'GO'
package main

import (
	"os"

	"k8s.io/component-base/cli"
	"k8s.io/kubectl/pkg/cmd"
	"k8s.io/kubectl/pkg/cmd/util"
)

func main() {
	if err := cli.RunNoErrOutput(cmd.NewDefaultKubectlCommand()); err != nil {
		util.CheckErr(err)
		os.Exit(1)
	}
}
GO
    cat >go.mod <<MOD
module kubectl

go 1.24

require (
	k8s.io/component-base ${VERSION/v1./v0.}
	k8s.io/kubectl ${VERSION/v1./v0.}
)
MOD
    STAMP=k8s.io/component-base/version
    GOFLAGS=-mod=mod GOTOOLCHAIN=${GOTOOLCHAIN:-auto} CGO_ENABLED=0 go build -trimpath \
        -ldflags "-s -w -X $STAMP.gitVersion=$VERSION -X $STAMP.gitMajor=1 -X $STAMP.gitMinor=36" -o "$BINARY.new" . >&2
    mv "$BINARY.new" "$BINARY"
fi
echo "$BINARY"
