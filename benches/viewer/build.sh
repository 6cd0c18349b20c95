#!/usr/bin/env bash
# Builds the page: one HTML file without a server, target/viewer.html. Installs what it needs (root on Debian 12).

set -euo pipefail
cd "$(dirname "$0")/../.."

work=$PWD/target/viewer

# Debian's own compiler comes with the sources of `std`, and no target of this kind is packaged.
if ! [ -x /usr/bin/cargo ] || ! [ -d /usr/lib/rustlib/src/rust/library/std ]; then
    apt-get update -qq
    DEBIAN_FRONTEND=noninteractive apt-get install -qq --no-install-recommends rustc-web cargo-web rust-web-src
fi

# The linker comes with the stable toolchain. One thread of code generation makes the smallest file.
RUSTC_BOOTSTRAP=1 RUSTC=/usr/bin/rustc CARGO_TARGET_DIR=$work/core \
    CARGO_TARGET_WASM32_UNKNOWN_UNKNOWN_LINKER=$(rustc --print sysroot)/lib/rustlib/$(rustc -vV | sed -n 's/^host: //p')/bin/rust-lld \
    CARGO_PROFILE_RELEASE_DEBUG=false CARGO_PROFILE_RELEASE_OPT_LEVEL=s CARGO_PROFILE_RELEASE_PANIC=abort \
    /usr/bin/cargo build --locked --quiet --release -p viewer --lib -Zbuild-std=std,panic_abort --target wasm32-unknown-unknown
cargo build --locked --quiet --manifest-path benches/viewer/bundle/Cargo.toml --target-dir "$work/bundle"
"$work/bundle/debug/bundle" benches/viewer/page "$work/core/wasm32-unknown-unknown/release/viewer.wasm" target/viewer.html
