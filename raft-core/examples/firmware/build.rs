//! Says where the memory is, to whom links for bare metal.

use std::env;

fn main() {
    println!("cargo::rerun-if-changed=layouts");
    if env::var("CARGO_CFG_TARGET_OS").as_deref() != Ok("none") {
        return;
    }
    let here = env::var("CARGO_MANIFEST_DIR").expect("cargo sets it");
    println!("cargo::rustc-link-arg-bins=-Tlink.x");
    println!("cargo::rustc-link-arg-bins=--nmagic");
    println!("cargo::rustc-link-arg-bin=three_in_one=-L{here}/layouts/board");
}
