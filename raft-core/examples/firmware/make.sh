#!/usr/bin/env bash
# Builds the firmware and runs it under QEMU.
#
#   ./make.sh build               all images
#   ./make.sh run three_in_one    builds, then runs an image that needs no line
#   ./make.sh budget              what a node takes: flash, RAM, instructions and allocations
#   ./make.sh panics              that no message can make the core panic: looks through an image for a way
#   ./make.sh bounds              fills a node to its bounds: does its heap suffice?
#   ./make.sh lint                clippy on all that runs on the board
#
# The compiler is rustup's, after `rustup target add thumbv7m-none-eabi`, or else that of Debian (rustc-web cargo-web rust-web-src),
# which builds `core` and `alloc` itself; rustup's linker links either. Without any it says so, and ends with code 77.

set -euo pipefail
cd "$(dirname "$0")"

target=thumbv7m-none-eabi
out=$PWD/target/$target/release
# What a cargo around this one has set is not meant for it.
unset CARGO_TARGET_DIR CARGO_ENCODED_RUSTFLAGS RUSTFLAGS RUSTC RUSTC_WRAPPER

# A command of cargo, for the board.
cargo_for_board() {
    local command=$1 stable
    shift
    stable=$(rustc --print sysroot)
    if [ -d "$stable/lib/rustlib/$target/lib" ]; then
        cargo "$command" --locked --quiet --release --target "$target" "$@"
        return
    fi
    export CARGO_TARGET_THUMBV7M_NONE_EABI_LINKER=$stable/lib/rustlib/x86_64-unknown-linux-gnu/bin/rust-lld
    if ! [ -d "$(/usr/bin/rustc --print sysroot 2>/dev/null)/lib/rustlib/src/rust/library/core" ] ||
        ! [ -x "$CARGO_TARGET_THUMBV7M_NONE_EABI_LINKER" ]; then
        echo "no compiler for $target: rustup target add $target" >&2
        exit 77
    fi
    # `-Zbuild-std` is not stable; the code itself needs only stable Rust. The path is for `clippy`, which cargo looks for there.
    PATH=/usr/bin:$PATH RUSTC_BOOTSTRAP=1 RUSTC=/usr/bin/rustc /usr/bin/cargo "$command" --locked --quiet --release \
        --target "$target" -Zbuild-std=core,alloc -Zbuild-std-features=optimize_for_size "$@"
}

run() {
    if ! command -v qemu-system-arm >/dev/null; then
        echo "no qemu-system-arm: apt-get install qemu-system-arm" >&2
        exit 77
    fi
    timeout 60 qemu-system-arm -machine lm3s6965evb -cpu cortex-m3 -nographic -monitor none -serial none \
        -semihosting-config enable=on,target=native -kernel "$out/$1" "${@:2}" </dev/null
}

# The sections of an image that lie in flash, or in RAM before anything runs.
sections() {
    size -A "$out/node" | awk -v names=" $1 " '$2 ~ /^[0-9]+$/ && index(names, " " $1 " ") { sum += $2 } END { print sum }'
}

print_sizes() {
    printf '| the image `node`: core, codec, line, journal, clock, heap | bytes |\n|---|---|\n'
    printf '| flash | %d |\n' "$(sections '.vector_table .text .rodata .data')"
    printf '| RAM: variables, 12 KiB of heap among them | %d |\n' "$(sections '.data .bss .uninit')"
    printf '| RAM: the stack, which has the rest of 23 KiB | %d |\n\n' $((23552 - $(sections '.data .bss .uninit')))
}

case ${1:-} in
build)
    cargo_for_board build --bins
    ;;
run)
    cargo_for_board build --bin "$2"
    run "$2"
    ;;
budget)
    cargo_for_board build --bins
    print_sizes
    # An instruction takes 2^6 ns of the emulated time.
    run budget -icount shift=6,align=off,sleep=off
    ;;
panics)
    cargo_for_board build --bin panics
    if ! command -v llvm-objdump >/dev/null; then
        echo "no llvm-objdump: apt-get install llvm" >&2
        exit 77
    fi
    llvm-objdump -d --demangle --no-show-raw-insn "$out/panics" | awk -f panics.awk
    ;;
bounds)
    cargo_for_board build --bin bounds
    run bounds
    ;;
lint)
    cargo_for_board clippy --bins --lib -- -D warnings
    ;;
*)
    sed -n '2,12s/^# \{0,1\}//p' "$0" >&2
    exit 2
    ;;
esac
