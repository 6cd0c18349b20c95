//! Says how to link for bare metal. Where the board's memory is, the crate `lm3s6965` says.

use std::env;

fn main() {
    println!("cargo::rerun-if-changed=budget.x");
    if env::var("CARGO_CFG_TARGET_OS").as_deref() != Ok("none") {
        return;
    }
    let here = env::var("CARGO_MANIFEST_DIR").expect("cargo sets it");
    println!("cargo::rustc-link-arg-bins=-Tlink.x");
    println!("cargo::rustc-link-arg-bins=--nmagic");
    // One server has the first 23 KiB of RAM and no more: its stack begins at their end.
    println!("cargo::rustc-link-arg-bin=node=--defsym=_stack_start=0x20005C00");
    println!("cargo::rustc-link-arg-bin=node=-T{here}/budget.x");
}
