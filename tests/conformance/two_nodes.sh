#!/usr/bin/env bash
# Starts a server and an agent, each in a network namespace of its own, and runs upstream's network tests on the two nodes.
#
#     tests/conformance/two_nodes.sh [--keep] [ARGUMENT...]
#
# Without arguments: the tests of expected_two_nodes.txt. Arguments are those of the kit's `run`, such as --focus REGEX.
# --keep leaves the nodes running afterwards; `two_nodes.sh --down` ends them.
#
#     COMBO_CONFORMANCE_KIT     the folder of the kit that runs upstream's suite: its program `run`
#     COMBO_CONFORMANCE_IMAGES  the folder of the archives of its images
#     COMBO_BINARY              the binary; the one that cargo built for release without it
#     COMBO_TWO_NODES           the folder of the nodes' data and results; target/two-nodes without it
#     COMBO_TWO_NODES_PROCS     how many tests run at a time; 4 without it
set -euo pipefail
cd "$(dirname "$0")/../.."
. packaging/lib.sh

BINARY=$(realpath "${COMBO_BINARY:-target/$(build_target)/release/combo}")
FOLDER=$(realpath -m "${COMBO_TWO_NODES:-target/two-nodes}")
KUBECONFIG=$FOLDER/kubeconfig
export KUBECONFIG
# The suite runs on the host, which reaches both nodes over this bridge, in a network that is for such tests (RFC 2544).
BRIDGE=combo-two
NETWORK=198.19.36
NODES=(server agent)
READY_SECONDS_MAX=60

place() { echo "combo-two-$1"; }
# `ip netns exec` would hide the control groups.
inside() { local node=$1; shift; nsenter --net="/run/netns/$(place "$node")" "$@"; }
kubectl() { "$BINARY" kubectl "$@"; }

down() {
    local node
    for node in "${NODES[@]}"; do
        if [ -s "$FOLDER/$node.pid" ]; then
            kill "$(cat "$FOLDER/$node.pid")" 2>/dev/null || :
            while kill -0 "$(cat "$FOLDER/$node.pid")" 2>/dev/null; do sleep 0.1; done
            rm "$FOLDER/$node.pid"
        fi
        [ ! -e "/run/netns/$(place "$node")" ] || [ ! -d "$FOLDER/$node" ] ||
            inside "$node" "$BINARY" killall --data-dir "$FOLDER/$node" >/dev/null
        rm -rf "${FOLDER:?}/$node"
        ip netns delete "$(place "$node")" 2>/dev/null || :
    done
    ip link delete "$BRIDGE" 2>/dev/null || :
}

connect() {
    local node number=1
    ip link add "$BRIDGE" type bridge
    ip link set "$BRIDGE" up
    ip address add "$NETWORK.254/24" dev "$BRIDGE"
    for node in "${NODES[@]}"; do
        ip netns add "$(place "$node")"
        ip link add "two-$node" type veth peer name eth0 netns "$(place "$node")"
        ip link set "two-$node" master "$BRIDGE" up
        inside "$node" ip link set lo up
        inside "$node" ip link set eth0 up
        inside "$node" ip address add "$NETWORK.$number/24" dev eth0
        number=$((number + 1))
    done
}

start() {
    local node=$1; shift
    mkdir -p "$FOLDER/$node"
    # What is started has the number that is kept: nothing in between forks.
    (exec nsenter --net="/run/netns/$(place "$node")" setsid "$BINARY" "$@" --data-dir "$FOLDER/$node" \
        --node-name "$node" >"$FOLDER/$node.log" 2>&1 </dev/null) &
    echo $! >"$FOLDER/$node.pid"
}

# Waits until a command succeeds.
until_done() {
    local what=$1 end=$((SECONDS + READY_SECONDS_MAX)); shift
    until "$@" >/dev/null 2>&1; do
        [ $SECONDS -lt $end ] || fail "$what: not after $READY_SECONDS_MAX s; the logs are in $FOLDER"
        sleep 0.2
    done
}

up() {
    local node archive
    down
    mkdir -p "$FOLDER"
    rm -f "$KUBECONFIG"
    connect
    start server server --write-kubeconfig "$KUBECONFIG"
    until_done "the server's API" test -s "$KUBECONFIG" -a -s "$FOLDER/server/server/agent-token"
    # The file names the server's own loopback address.
    until_done "the server's API" inside server "$BINARY" kubectl get --raw /readyz
    sed -i "s|https://127.0.0.1:|https://$NETWORK.1:|" "$KUBECONFIG"
    start agent agent --server "https://$NETWORK.1:6443" --token-file "$FOLDER/server/server/agent-token"
    for node in "${NODES[@]}"; do
        until_done "the node $node" kubectl wait --for=condition=Ready "node/$node" --timeout=1s
        for archive in "$COMBO_CONFORMANCE_IMAGES"/*.tar; do
            "$BINARY" image import --data-dir "$FOLDER/$node" "$archive" >/dev/null
        done
    done
    kubectl get nodes -o wide
}

[ "$(id -u)" = 0 ] || fail "run it as root: it makes network namespaces"
KEEP=
case "${1:-}" in
    --down) down; exit ;;
    --keep) KEEP=1; shift ;;
esac
: "${COMBO_CONFORMANCE_KIT:?names no folder: the suite is not part of this tree}"
: "${COMBO_CONFORMANCE_IMAGES:?names no folder: the images are not part of this tree}"
[ -n "$KEEP" ] || trap down EXIT
if [ -z "$KEEP" ] || ! kubectl get nodes >/dev/null 2>&1; then
    step "A server and an agent"
    up
fi
step "Upstream's tests"
[ $# -gt 0 ] || set -- --names tests/conformance/expected_two_nodes.txt
"$COMBO_CONFORMANCE_KIT/run" --kubeconfig "$KUBECONFIG" --procs "${COMBO_TWO_NODES_PROCS:-4}" --output "$FOLDER/results" "$@"
