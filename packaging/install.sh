#!/bin/sh
# Installs Combo as a service of systemd or OpenRC, upgrades it in place, or says why it cannot.
#
#   install.sh [server|agent] [FLAG...]
#   COMBO_URL=https://server:6443 COMBO_TOKEN=... install.sh        an agent
#   INSTALL_COMBO_BUNDLE=combo-arm64.tar install.sh                 from one file, with no network
#
# What is written is written durably and remembered: `combo uninstall` takes all of it away again. COMBO_* and proxy variables go
# to a file that only root reads; a run later without them keeps them, and one with an empty variable removes it.
#
#   INSTALL_COMBO_BUNDLE=FILE           binary and images from a bundle of `combo airgap bundle`
#   INSTALL_COMBO_ARTIFACT=FILE         the binary from a file; FILE.sha256 beside it is compared
#   INSTALL_COMBO_ARTIFACT_URL=URL      folder of releases: URL/VERSION/combo-ARCH and URL/VERSION/sha256sum-ARCH.txt
#   INSTALL_COMBO_VERSION=VERSION       the release to download
#   INSTALL_COMBO_CHANNEL_URL=URL       where URL/CHANNEL leads to, its last part is the version
#   INSTALL_COMBO_CHANNEL=NAME          stable
#   INSTALL_COMBO_SKIP_DOWNLOAD=true    the binary lies in the folder of binaries already
#   INSTALL_COMBO_BIN_DIR=FOLDER        /usr/local/bin, or /opt/bin where that cannot be written
#   INSTALL_COMBO_BIN_DIR_READ_ONLY=true    nothing is written there; skips the download
#   INSTALL_COMBO_SYSTEMD_DIR=FOLDER    /etc/systemd/system
#   INSTALL_COMBO_EXEC="FLAGS"          flags of the service, before those of the command line
#   INSTALL_COMBO_NAME=NAME             the service is combo-NAME; else combo, or combo-agent
#   INSTALL_COMBO_TYPE=TYPE             systemd's Type=; notify
#   INSTALL_COMBO_SYMLINK=skip|force    the link kubectl; made where no other program has that name
#   INSTALL_COMBO_SKIP_ENABLE=true      does not start with the machine, nor now
#   INSTALL_COMBO_SKIP_START=true       does not start now
#   INSTALL_COMBO_FORCE_RESTART=true    restarts also when nothing changed
set -eu

say() { printf '[combo] %s\n' "$*"; }
fail() {
    printf '[combo] error: %s\n' "$*" >&2
    exit 1
}
is_true() { [ "${1:-}" = true ]; }
has() { command -v "$1" >/dev/null 2>&1; }

# Where the meaning is the same, what people have from k3s is understood.
understand_aliases() {
    for name in URL TOKEN TOKEN_FILE AGENT_TOKEN AGENT_TOKEN_FILE NODE_NAME KUBECONFIG_MODE; do
        eval "ours=\${COMBO_$name-unset} theirs=\${K3S_$name-unset}"
        # shellcheck disable=SC2154 # both are set by eval
        if [ "$ours" = unset ] && [ "$theirs" != unset ]; then
            eval "export COMBO_$name=\$theirs"
        fi
    done
}

# Nothing that a binary says can be asked before its processor is known to run it.
find_architecture() {
    case $(uname -m) in
        x86_64 | amd64) ARCH=amd64 ;;
        aarch64 | arm64) ARCH=arm64 ;;
        armv6*) fail "this processor is an armv6 (Raspberry Pi 1, Zero): it has no 64 bits and cannot run Combo" ;;
        armv7* | armv8l | arm)
            fail "this system is a 32-bit ARM: install a 64-bit one (a Raspberry Pi 2 v1.2, 3 or later can); Combo has no 32-bit build"
            ;;
        *) fail "$(uname -m) is not supported: x86_64 and aarch64 are" ;;
    esac
}

find_init() {
    if [ -x /sbin/openrc-run ] && ! [ -d /run/systemd/system ]; then
        INIT=openrc
    elif has systemctl; then
        INIT=systemd
    else
        fail "neither systemd nor OpenRC is here: run 'combo server' by the means of this system"
    fi
}

find_bin_dir() {
    BIN_DIR=${INSTALL_COMBO_BIN_DIR:-}
    if [ -z "$BIN_DIR" ]; then
        BIN_DIR=/opt/bin
        if [ -w /usr/local/bin ] || { [ ! -e /usr/local/bin ] && [ -w /usr/local ]; }; then
            BIN_DIR=/usr/local/bin
        fi
    fi
    BINARY=$BIN_DIR/combo
    if is_true "${INSTALL_COMBO_BIN_DIR_READ_ONLY:-}"; then
        INSTALL_COMBO_SKIP_DOWNLOAD=true
    fi
}

# The first word may say it; else a URL of a server makes an agent, also one that an earlier run saved.
find_role() {
    case ${1:-} in
        server | agent) ROLE=$1 ;;
        *)
            ROLE=server
            if [ -n "${COMBO_URL:-}" ]; then
                ROLE=agent
            elif [ -z "${INSTALL_COMBO_NAME:-}" ] && [ -z "${COMBO_URL+set}" ] &&
                [ -e "$RECORDS/combo-agent.json" ] && [ ! -e "$RECORDS/combo.json" ]; then
                ROLE=agent
            elif [ -n "${INSTALL_COMBO_NAME:-}" ] && grep -q '"role": "agent"' "$RECORDS/combo-$INSTALL_COMBO_NAME.json" 2>/dev/null; then
                ROLE=agent
            fi
            ;;
    esac
    if [ -n "${INSTALL_COMBO_NAME:-}" ]; then
        SERVICE=combo-$INSTALL_COMBO_NAME
    elif [ "$ROLE" = agent ]; then
        SERVICE=combo-agent
    else
        SERVICE=combo
    fi
    case $SERVICE in
        *[!A-Za-z0-9_.@-]*) fail "INSTALL_COMBO_NAME=$INSTALL_COMBO_NAME is no name: letters, digits, - and _ are allowed" ;;
    esac
    SYSTEMD_DIR=${INSTALL_COMBO_SYSTEMD_DIR:-/etc/systemd/system}
    if [ "$INIT" = systemd ]; then
        SERVICE_FILE=$SYSTEMD_DIR/$SERVICE.service
        ENV_FILE=$SYSTEMD_DIR/$SERVICE.service.env
        ENABLED=/etc/systemd/system/multi-user.target.wants/$SERVICE.service
    else
        SERVICE_FILE=/etc/init.d/$SERVICE
        ENV_FILE=/etc/combo/$SERVICE.env
        ENABLED=/etc/runlevels/default/$SERVICE
    fi
}

# The binary is tried before it is installed, and /tmp may be mounted so that nothing in it can be run.
find_work_folder() {
    for folder in "${TMPDIR:-/tmp}" /var/tmp /root; do
        TMP=$(mktemp -d -p "$folder" 2>/dev/null) || continue
        printf '#!/bin/sh\n' >"$TMP/try"
        chmod 755 "$TMP/try"
        if "$TMP/try" 2>/dev/null; then
            trap 'rm -rf "$TMP"' EXIT
            trap 'exit 1' HUP INT TERM
            return 0
        fi
        rm -rf "$TMP"
    done
    fail "programs can be run from none of ${TMPDIR:-/tmp}, /var/tmp and /root: set TMPDIR to another folder"
}

# A value as systemd and a shell both read it back.
quoted() {
    case $1 in
        *"
"*) fail "a variable of several lines cannot be kept: ${2}" ;;
    esac
    printf '"'
    printf '%s' "$1" | sed 's/[\\"$`]/\\&/g'
    printf '"'
}

# What an earlier run saved, and what this one says instead.
collect_environment() {
    : >"$TMP/env"
    chmod 600 "$TMP/env"
    names=$(env | sed -n 's/^\(COMBO_[A-Za-z0-9_]*\)=.*/\1/p')
    names="$names http_proxy https_proxy no_proxy all_proxy HTTP_PROXY HTTPS_PROXY NO_PROXY ALL_PROXY"
    if [ -r "$ENV_FILE" ]; then
        while IFS= read -r line; do
            name=${line%%=*}
            eval "said=\${$name+set}" 2>/dev/null || continue
            # shellcheck disable=SC2154 # set by eval
            [ -n "$said" ] || printf '%s\n' "$line" >>"$TMP/env"
        done <"$ENV_FILE"
    fi
    for name in $names; do
        eval "value=\${$name-}"
        # shellcheck disable=SC2154 # set by eval
        if [ -n "$value" ]; then
            text=$(quoted "$value" "$name") || exit 1
            printf '%s=%s\n' "$name" "$text" >>"$TMP/env"
        fi
    done
    [ "$ROLE" != agent ] || check_agent "$@"
}

check_agent() {
    for word in "$@"; do
        case $word in
            -t | --token | --token=* | --token-file | --token-file=* | -c | --config | --config=*) return 0 ;;
        esac
    done
    [ ! -e /etc/combo/config.yaml ] || return 0
    [ ! -e "$RECORDS/$SERVICE.json" ] || return 0
    grep -Eq '^COMBO_TOKEN(_FILE)?=' "$TMP/env" ||
        fail "an agent needs COMBO_TOKEN or COMBO_TOKEN_FILE: 'combo token create' on the server makes one"
}

sum_of() { sha256sum "$1" | cut -d ' ' -f 1; }

# compare FILE SHA256 WHERE
compare() {
    found=$(sum_of "$1")
    [ "$found" = "$2" ] || fail "the checksum of the binary does not fit: $3 says $2, it is $found"
}

download() {
    say "downloading $1"
    if has curl; then
        curl -fsSL -o "$2" "$1" || fail "$1 cannot be downloaded"
    elif has wget; then
        wget -qO "$2" "$1" || fail "$1 cannot be downloaded"
    else
        fail "neither curl nor wget is here to download with"
    fi
}

find_version() {
    VERSION=${INSTALL_COMBO_VERSION:-}
    [ -z "$VERSION" ] || return 0
    [ -n "${INSTALL_COMBO_CHANNEL_URL:-}" ] || fail "set INSTALL_COMBO_VERSION, or INSTALL_COMBO_CHANNEL_URL"
    url=$INSTALL_COMBO_CHANNEL_URL/${INSTALL_COMBO_CHANNEL:-stable}
    if has curl; then
        leads=$(curl -fsSL -o /dev/null -w '%{url_effective}' "$url") || fail "$url does not answer"
    else
        leads=$(wget -SO /dev/null "$url" 2>&1 | sed -n 's/^ *[Ll]ocation: *\([^ ]*\).*/\1/p' | tail -1)
    fi
    VERSION=${leads##*/}
    [ -n "$VERSION" ] || fail "$url leads to no version"
}

get_download() {
    [ -n "${INSTALL_COMBO_ARTIFACT_URL:-}" ] || fail "there is nothing to install from: set INSTALL_COMBO_BUNDLE or INSTALL_COMBO_ARTIFACT \
to a file, or INSTALL_COMBO_ARTIFACT_URL to a folder of releases"
    find_version
    base=$INSTALL_COMBO_ARTIFACT_URL/$VERSION
    download "$base/sha256sum-$ARCH.txt" "$TMP/sums"
    download "$base/combo-$ARCH" "$TMP/combo"
    wanted=$(sed -n "s/^\([0-9a-f]\{64\}\) [ *]combo-$ARCH\$/\1/p" "$TMP/sums")
    [ -n "$wanted" ] || fail "$base/sha256sum-$ARCH.txt names no combo-$ARCH"
    compare "$TMP/combo" "$wanted" "$base/sha256sum-$ARCH.txt"
}

get_file() {
    [ -r "$INSTALL_COMBO_ARTIFACT" ] || fail "$INSTALL_COMBO_ARTIFACT cannot be read"
    cp "$INSTALL_COMBO_ARTIFACT" "$TMP/combo"
    if [ -r "$INSTALL_COMBO_ARTIFACT.sha256" ]; then
        compare "$TMP/combo" "$(cut -d ' ' -f 1 "$INSTALL_COMBO_ARTIFACT.sha256")" "$INSTALL_COMBO_ARTIFACT.sha256"
    fi
}

# The list of contents seals itself, and has the checksum of the binary; the binary then looks at all the rest.
get_bundle() {
    [ -r "$INSTALL_COMBO_BUNDLE" ] || fail "$INSTALL_COMBO_BUNDLE cannot be read"
    # Where it is cut is told by what follows.
    tar -xf "$INSTALL_COMBO_BUNDLE" -C "$TMP" contents.txt combo 2>/dev/null || true
    { [ -s "$TMP/contents.txt" ] && [ -s "$TMP/combo" ]; } ||
        fail "$INSTALL_COMBO_BUNDLE is no bundle, or it is cut short before the binary"
    sed '$d' "$TMP/contents.txt" >"$TMP/sealed"
    [ "$(tail -n 1 "$TMP/contents.txt")" = "seal $(sum_of "$TMP/sealed")" ] ||
        fail "$INSTALL_COMBO_BUNDLE: contents.txt was changed: its seal does not fit"
    made_for=$(sed -n 's/^arch //p' "$TMP/sealed")
    [ "$made_for" = "$ARCH" ] || fail "$INSTALL_COMBO_BUNDLE was made for $made_for, this machine is $ARCH"
    compare "$TMP/combo" "$(sed -n 's/^sha256 \([0-9a-f]*\) [0-9]* combo$/\1/p' "$TMP/sealed")" "contents.txt of $INSTALL_COMBO_BUNDLE"
    chmod 755 "$TMP/combo"
    "$TMP/combo" airgap list "$INSTALL_COMBO_BUNDLE" >/dev/null || fail "the bundle is refused; nothing was installed"
}

get_binary() {
    if [ -n "${INSTALL_COMBO_BUNDLE:-}" ]; then
        get_bundle
    elif is_true "${INSTALL_COMBO_SKIP_DOWNLOAD:-}" || [ "${INSTALL_COMBO_SKIP_DOWNLOAD:-}" = binary ]; then
        [ -x "$BINARY" ] || fail "INSTALL_COMBO_SKIP_DOWNLOAD is set and $BINARY is not there"
        cp "$BINARY" "$TMP/combo"
    elif [ -n "${INSTALL_COMBO_ARTIFACT:-}" ]; then
        get_file
    else
        get_download
    fi
    chmod 755 "$TMP/combo"
    "$TMP/combo" --version >"$TMP/version" 2>&1 || fail "the binary does not run here: $(head -n 1 "$TMP/version")"
}

# with_environment COMMAND...: with the variables that the service will have.
with_environment() (
    set -a
    # shellcheck disable=SC1091 # made above
    . "$TMP/env"
    set +a
    exec "$@"
)

step() {
    name=$1
    shift
    "$TMP/combo" host "$name" --service "$SERVICE" "$@"
}

# changes COMMAND...: remembers that something changed.
changes() {
    outcome=$("$@") || exit 1
    [ "$outcome" != changed ] || CHANGED=true
}

write_files() {
    step begin --init "$INIT" --role "$ROLE" --environment "$ENV_FILE" -- "$@"
    if ! is_true "${INSTALL_COMBO_SKIP_DOWNLOAD:-}" && ! is_true "${INSTALL_COMBO_BIN_DIR_READ_ONLY:-}"; then
        changes step put --mode 755 "$TMP/combo" "$BINARY"
        link_kubectl
    fi
    changes step put --mode 600 "$TMP/env" "$ENV_FILE"
    changes step service-file --binary "$BINARY" --kind "${INSTALL_COMBO_TYPE:-notify}" "$SERVICE_FILE"
    if [ -n "${INSTALL_COMBO_BUNDLE:-}" ]; then
        "$TMP/combo" airgap load "$INSTALL_COMBO_BUNDLE" --service "$SERVICE" | sed 's/^/[combo] image archive /'
    fi
    if ! is_true "${INSTALL_COMBO_SKIP_ENABLE:-}"; then
        step link "$SERVICE_FILE" "$ENABLED" >/dev/null
    fi
}

link_kubectl() {
    case ${INSTALL_COMBO_SYMLINK:-} in
        skip) return 0 ;;
        force) ;;
        *)
            there=$(command -v kubectl || true)
            [ -z "$there" ] || { [ "$there" = "$BIN_DIR/kubectl" ] && [ "$(readlink "$there")" = combo ]; } || return 0
            ;;
    esac
    step link combo "$BIN_DIR/kubectl" >/dev/null
}

boot_words() {
    file=$(step boot-words)
    if [ -n "$file" ]; then
        say "the memory controller is switched on in $file (the line from before is beside it): reboot this machine;"
        say "until then limits on memory are not enforced"
    fi
}

start() {
    [ "$INIT" != systemd ] || systemctl daemon-reload
    if is_true "${INSTALL_COMBO_SKIP_ENABLE:-}" || is_true "${INSTALL_COMBO_SKIP_START:-}"; then
        say "$SERVICE is installed and not started"
        return 0
    fi
    if [ "$INIT" = systemd ]; then
        if [ "$CHANGED" = false ] && systemctl is-active --quiet "$SERVICE"; then
            say "nothing changed: $SERVICE runs on"
            return 0
        fi
        say "starting $SERVICE"
        # An agent is ready when a server answers, which may be long after.
        if [ "$ROLE" = agent ]; then
            systemctl restart --no-block "$SERVICE"
        else
            systemctl restart "$SERVICE" || fail "$SERVICE did not start: journalctl -u $SERVICE says why"
        fi
    else
        if [ "$CHANGED" = false ] && rc-service --quiet "$SERVICE" status >/dev/null 2>&1; then
            say "nothing changed: $SERVICE runs on"
            return 0
        fi
        say "starting $SERVICE"
        rc-service "$SERVICE" restart || fail "$SERVICE did not start: the system's log says why"
    fi
}

RECORDS=/etc/combo/install
CHANGED=false
understand_aliases
find_architecture
[ "$(id -u)" = 0 ] || fail "run it as root, for example with sudo"
find_init
find_bin_dir
# shellcheck disable=SC2086 # the variable holds several words
set -- ${INSTALL_COMBO_EXEC:-} "$@"
find_role "$@"
# Flags alone are those of the role; nothing at all is what an earlier run said.
case ${1:-} in
    server | agent) ;;
    '') [ -e "$RECORDS/$SERVICE.json" ] || set -- "$ROLE" ;;
    -*) set -- "$ROLE" "$@" ;;
    *) fail "$1 is neither server nor agent" ;;
esac

find_work_folder
collect_environment "$@"
get_binary
say "$(cat "$TMP/version") for $ARCH"
with_environment "$TMP/combo" check --install --service "$SERVICE" -- "$@" || exit 1

! is_true "${INSTALL_COMBO_FORCE_RESTART:-}" || CHANGED=true
write_files "$@"
boot_words
start
say "done: 'combo status' says what runs, 'combo uninstall' takes it away again"
