#!/usr/bin/env bash
# Builds the kernels' tests for aarch64 and runs them under QEMU on three CPU models, so that each NEON kernel is
# executed: cortex-a57 (no dot product), cortex-a76 (sdot), max (smmla). It proves results, never speed.
#
# Debian (bookworm or later), x86-64. A missing tool is installed when we are root, else the script fails; it never skips.
# The cross compiler and aarch64's standard library come from Debian's rustc-web packages, unpacked (not
# installed) in ${XDG_CACHE_HOME:-~/.cache}/bitnet-rust-ci, where later runs find them.
set -euo pipefail
cd "$(dirname "$0")/.."
root=$PWD
work=${CARGO_TARGET_DIR:-$root/target}/neon
tools=${XDG_CACHE_HOME:-$HOME/.cache}/bitnet-rust-ci/neon
mkdir -p "$work" "$tools"

fail() {
    echo "neon.sh: $*" >&2
    exit 1
}

install_tools() {
    local packages=()
    command -v aarch64-linux-gnu-gcc >/dev/null || packages+=(gcc-aarch64-linux-gnu)
    [ -e /usr/aarch64-linux-gnu/lib/libc.so.6 ] || packages+=(libc6-dev-arm64-cross)
    command -v qemu-aarch64 >/dev/null || packages+=(qemu-user)
    [ ${#packages[@]} -eq 0 ] && return
    command -v apt-get >/dev/null || fail "needs ${packages[*]} and there is no apt-get to install them with"
    [ "$(id -u)" = 0 ] || fail "needs ${packages[*]}; install them or run as root"
    apt-get update -q
    DEBIAN_FRONTEND=noninteractive apt-get install -q -y --no-install-recommends "${packages[@]}"
}

# apt with its own lists and with arm64 beside amd64, so that the machine's own set-up stays as it is.
private_apt() {
    local tool=$1
    shift
    "$tool" -o "Dir::State=$tools/apt/state" -o "Dir::Cache=$tools/apt/cache" -o Dir::State::status=/var/lib/dpkg/status \
        -o APT::Architectures::=amd64 -o APT::Architectures::=arm64 -o APT::Sandbox::User=root "$@"
}

# The name of the package that PACKAGE depends on and that begins with PREFIX.
dependency() {
    private_apt apt-cache depends "$1" | sed -n "s/^ *Depends: \($2[^: ]*\).*/\1/p" | head -n 1
}

unpack_compiler() {
    [ -e "$tools/rust/complete" ] && return
    command -v dpkg >/dev/null || fail "needs dpkg to unpack Debian's rustc-web"
    rm -rf "$tools/rust" "$tools/debs"
    mkdir -p "$tools/rust" "$tools/debs" "$tools/apt/state/lists/partial" "$tools/apt/cache/archives/partial"
    private_apt apt-get update -q
    local library llvm
    library=$(dependency libstd-rust-web-dev libstd-rust-web-)
    [ -n "$library" ] || fail "this Debian has no rustc-web packages"
    llvm=$(dependency "$library" libllvm)
    [ -n "$llvm" ] || fail "$library does not say which LLVM it needs"
    (cd "$tools/debs" && private_apt apt-get download -q rustc-web "$library" "$llvm" libstd-rust-web-dev:amd64 libstd-rust-web-dev:arm64)
    for package in "$tools"/debs/*.deb; do
        dpkg -x "$package" "$tools/rust"
    done
    rm -rf "$tools/debs" "$tools/apt"
    cat >"$tools/rustc" <<WRAPPER
#!/bin/sh
LD_LIBRARY_PATH="$tools/rust/usr/lib/x86_64-linux-gnu" exec "$tools/rust/usr/bin/rustc" --sysroot "$tools/rust/usr" "\$@"
WRAPPER
    chmod +x "$tools/rustc"
    "$tools/rustc" --version || fail "the unpacked compiler does not run"
    touch "$tools/rust/complete"
}

# run_on CPU KERNELS: all tests of the crate on that CPU model, where exactly KERNELS (best first) must run.
run_on() {
    echo "neon.sh: $1, expecting $2"
    env -u BITNET_KERNEL RUSTC="$tools/rustc" CARGO_TARGET_DIR="$work/build" CARGO_BUILD_TARGET=aarch64-unknown-linux-gnu \
        CARGO_TARGET_AARCH64_UNKNOWN_LINUX_GNU_LINKER=aarch64-linux-gnu-gcc \
        CARGO_TARGET_AARCH64_UNKNOWN_LINUX_GNU_RUNNER="qemu-aarch64 -L /usr/aarch64-linux-gnu -cpu $1" \
        RUSTFLAGS="${NEON_RUSTFLAGS:-}" BITNET_EXPECT_KERNELS=$2 \
        cargo test --release --lib --tests -p bitnet-kernels -- --nocapture 2>&1 | tee "$work/$1.log"
    grep -q "^kernels covered here: aarch64-t2-i8-${2%%,*}" "$work/$1.log" || fail "$1 did not run the $2 kernel"
}

command -v cargo >/dev/null || fail "needs cargo"
[ "$(uname -m)" = x86_64 ] || fail "written for x86-64 machines; on aarch64 plain 'cargo test' covers these kernels"
install_tools
unpack_compiler
run_on cortex-a57 neon,scalar
run_on cortex-a76 dotprod,neon,scalar
run_on max i8mm,dotprod,neon,scalar
echo "neon.sh: the kernels neon, dotprod and i8mm equal the scalar reference"
