//! The program that runs the servers of a test.

use std::path::{Path, PathBuf};

/// `cargo test` builds a package's examples before it runs its tests, into a folder beside that of the tests.
pub(crate) fn program() -> PathBuf {
    let test = std::env::current_exe().unwrap();
    let profile = test.parent().and_then(Path::parent).unwrap();
    let program =
        profile.join("examples").join(format!("kv_mixed{}", std::env::consts::EXE_SUFFIX));
    assert!(
        program.exists(),
        "{} is missing: run `cargo build -p benches --example kv_mixed` with the flags of this test",
        program.display()
    );
    program
}
