#!/usr/bin/env bash
# Prints the path of a stock kubectl of the version that we serve, built from its Go module the first time.
set -euo pipefail
NAME=kubectl
VERSION=v1.36.2
. "$(dirname "$0")/go_tool.sh"

sources() {
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
}

build() {
    STAMP=k8s.io/component-base/version
    go build -trimpath \
        -ldflags "-s -w -X $STAMP.gitVersion=$VERSION -X $STAMP.gitMajor=1 -X $STAMP.gitMinor=36" -o "$1" .
}

built_once
