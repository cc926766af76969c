#!/usr/bin/env bash
# Builds Combo, starts a cluster of one node and runs a sample on it. `packaging/try.sh --down` removes everything again.
set -euo pipefail
cd "$(dirname "$0")/.."
. packaging/lib.sh

DIR=${COMBO_TRY_DIR:-/var/lib/combo-try}
PORT=${COMBO_TRY_PORT:-26443}
KUBELET_PORT=${COMBO_TRY_KUBELET_PORT:-26250}
POD_RANGE=${COMBO_TRY_POD_RANGE:-10.62.0.0/16}
SERVICE_RANGE=${COMBO_TRY_SERVICE_RANGE:-10.63.0.0/16}
IMAGE=combo.io/sample/webserver:1
TARGET=$(build_target)
COMBO=target/$TARGET/release/combo
PID_FILE=$DIR.pid
LOG=$DIR.log
KUBECONFIG_FILE=$DIR.kubeconfig

[ "$(id -u)" = 0 ] || fail "run it as root: it makes network links, mounts and control groups"

server_runs() { [ -r "$PID_FILE" ] && kill -0 "$(cat "$PID_FILE")" 2>/dev/null; }

stop_server() {
    if server_runs; then
        kill "$(cat "$PID_FILE")"
        wait_for 30 "the end of the server" bash -c "! kill -0 $(cat "$PID_FILE") 2>/dev/null"
    fi
    rm -f "$PID_FILE"
}

if [ "${1:-}" = --down ]; then
    step "Stopping the server and removing its pods"
    stop_server
    [ -x "$COMBO" ] && [ -d "$DIR" ] && "$COMBO" killall --data-dir "$DIR"
    rm -rf "$DIR" "$LOG" "$KUBECONFIG_FILE"
    echo "Everything that it made is gone; the build stays in target/."
    exit 0
fi

need_toolchain
step "Building the static binary (the first build takes some minutes)"
cargo xtask descriptions
cargo xtask release --features combo/descriptions
ls -lh "$COMBO" | awk '{print "    " $NF ": " $5}'

step "Packing the sample's image"
ARCHIVE=target/$TARGET/release/webserver-image.tar
cargo xtask image "target/$TARGET/release/webserver" "$IMAGE" "$ARCHIVE"

if server_runs; then
    step "The server is running already (pid $(cat "$PID_FILE"))"
else
    step "Starting the server (log: $LOG)"
    mkdir -p "$DIR"
    setsid "$COMBO" server --data-dir "$DIR" --https-listen-port "$PORT" --kubelet-port "$KUBELET_PORT" \
        --cluster-cidr "$POD_RANGE" --service-cidr "$SERVICE_RANGE" --node-name try \
        --write-kubeconfig "$KUBECONFIG_FILE" >"$LOG" 2>&1 </dev/null &
    echo $! >"$PID_FILE"
fi
export KUBECONFIG=$KUBECONFIG_FILE
kubectl() { "$COMBO" kubectl "$@"; }
# Succeeds when the command does, and ends the script with the log's last lines when the server is gone.
while_it_runs() {
    server_runs || { tail -5 "$LOG" >&2; fail "the server ended"; }
    "$@"
}
kubectl_quiet() { kubectl "$@" >/dev/null 2>&1; }

for _ in $(seq 300); do
    while_it_runs test -s "$KUBECONFIG_FILE" && kubectl_quiet wait --for=condition=Ready node/try --timeout=5s && break
    sleep 0.2
done
kubectl wait --for=condition=Ready node/try --timeout=5s
"$COMBO" image import --data-dir "$DIR" "$ARCHIVE"

step "Deploying the sample"
kubectl apply -f packaging/sample.yaml
kubectl rollout status deployment/hello --timeout=60s

step "kubectl get nodes"
kubectl get nodes
step "kubectl get pods -o wide"
kubectl get pods -o wide

ADDRESS=$(kubectl get service hello -o 'jsonpath={.spec.clusterIP}')
answer() ( exec 3<>"/dev/tcp/$ADDRESS/80" && printf 'GET / HTTP/1.0\r\n\r\n' >&3 && sed -n '$p' <&3; )
wait_for 20 "an answer of the Service" answer
step "The Service hello ($ADDRESS) answers"
answer

step "The log of a pod"
POD=$(kubectl get pods -l app=hello -o name | head -1)
kubectl logs "$POD" --tail=5

cat <<TEXT

It works. Go on with

    export KUBECONFIG=$KUBECONFIG_FILE
    $COMBO kubectl get all -A        # or any kubectl

and stop with

    packaging/try.sh --down
TEXT
