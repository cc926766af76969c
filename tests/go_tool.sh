# Read by kubectl.sh and etcd.sh: builds a program from its Go module once, and prints its path.
# Before it is read: NAME and VERSION of the program. They give `sources` (writes the files of a module into the current
# folder) and `build OUTPUT` (builds it there).
BINARY=${XDG_CACHE_HOME:-$HOME/.cache}/combo-tests/$NAME-$VERSION

built_once() {
    if [ ! -x "$BINARY" ]; then
        export PATH=$PATH:/usr/local/go/bin
        if ! command -v go >/dev/null; then
            GO=$("$(dirname "$0")/tools.sh" go)
            PATH=$PATH:$(echo "$GO"/lib/python3*/site-packages/go/bin)
        fi
        WORK=$(mktemp -d)
        trap 'rm -rf "$WORK"' EXIT
        mkdir -p "$(dirname "$BINARY")"
        cd "$WORK"
        sources
        export GOFLAGS=-mod=mod GOTOOLCHAIN=${GOTOOLCHAIN:-auto} CGO_ENABLED=0
        build "$BINARY.new" >&2
        mv "$BINARY.new" "$BINARY"
    fi
    echo "$BINARY"
}
