# What the scripts share: installing what a build needs, and telling what happens. Sourced, not run.

step() { printf '\n==> %s\n' "$*"; }
fail() { printf 'error: %s\n' "$*" >&2; exit 1; }

# Debian packages that are missing are installed; nothing else is touched.
need_packages() {
    local missing=()
    local package
    for package in "$@"; do
        dpkg-query -W -f '${Status}' "$package" 2>/dev/null | grep -q 'install ok installed' || missing+=("$package")
    done
    if [ ${#missing[@]} -gt 0 ]; then
        step "Installing ${missing[*]}"
        apt-get update -qq
        DEBIAN_FRONTEND=noninteractive apt-get install -y -qq "${missing[@]}" >/dev/null
    fi
}

# The triple that everything is built for on this machine.
build_target() {
    case "$(uname -m)" in
        x86_64) echo x86_64-unknown-linux-musl ;;
        aarch64) echo aarch64-unknown-linux-musl ;;
        *) fail "$(uname -m) is not supported: x86_64 and aarch64 are" ;;
    esac
}

# rustup is installed in the home folder where nobody did, and no shell is told of it.
need_rustup() {
    ! command -v rustup >/dev/null || return 0
    export PATH="${CARGO_HOME:-$HOME/.cargo}/bin:$PATH"
    ! command -v rustup >/dev/null || return 0
    need_packages ca-certificates curl
    step "Installing rustup"
    local folder
    folder=$(mktemp -d)
    curl -fsSL -o "$folder/rustup-init" "https://static.rust-lang.org/rustup/dist/$(uname -m)-unknown-linux-gnu/rustup-init" ||
        fail "rustup cannot be downloaded; get it from https://rustup.rs"
    chmod 755 "$folder/rustup-init"
    RUSTUP_INIT_SKIP_PATH_CHECK=yes "$folder/rustup-init" -y --quiet --no-modify-path --profile minimal --default-toolchain none
    rm -r "$folder"
}

need_toolchain() {
    need_rustup
    need_packages gcc libc6-dev musl-tools mold libc-bin
    CARGO_BUILD_TARGET=$(build_target)
    export CARGO_BUILD_TARGET
    # The toolchain that rust-toolchain.toml names, with its parts; one that is there already is left as it is.
    rustup toolchain install >/dev/null 2>&1 || fail "rustup cannot install what rust-toolchain.toml names"
    rustup target add "$(build_target)" >/dev/null 2>&1 || fail "rustup cannot add the target $(build_target)"
}

# wait_for SECONDS TEXT COMMAND...: repeats the command until it succeeds.
wait_for() {
    local deadline=$((SECONDS + $1)) what=$2
    shift 2
    until "$@" >/dev/null 2>&1; do
        [ $SECONDS -lt $deadline ] || fail "$what did not happen in time"
        sleep 0.2
    done
}
