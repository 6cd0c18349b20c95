//! For tests: a store that stands still while a file exists, as one does that waits for something
//! that never comes.
//!
//! The file is named by the environment variable `KV_HOLD_FILE`. Without it nothing here costs more
//! than a look at a constant.

use std::env;
use std::path::PathBuf;
use std::sync::OnceLock;
use std::thread;
use std::time::Duration;

/// The environment variable that names the file.
pub const HOLD_FILE: &str = "KV_HOLD_FILE";
/// How often a store that stands still looks whether the file is gone.
const LOOK_INTERVAL: Duration = Duration::from_millis(5);

/// Returns when the file is gone, or at once if there is none.
pub(super) fn wait_while_held() {
    static FILE: OnceLock<Option<PathBuf>> = OnceLock::new();
    let Some(file) = FILE.get_or_init(|| env::var_os(HOLD_FILE).map(PathBuf::from)) else { return };
    while file.exists() {
        thread::sleep(LOOK_INTERVAL);
    }
}
