//! How often a write is synced to a disk, as `strace -c` counts it on all servers together.

use std::fs;
use std::io;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use tokio::time::sleep;

use crate::cluster::{Cluster, Process};
use crate::contestants::find_program;
use crate::load;

/// The calls that make something durable.
const CALLS: &str = "fsync,fdatasync,msync,sync_file_range,sync,syncfs";
/// How long `strace` takes to take hold of all threads.
const ATTACH_SPAN: Duration = Duration::from_millis(700);
const WARM: Duration = Duration::from_millis(100);
const SPAN: Duration = Duration::from_millis(1000);
/// How long `strace` may take to let go.
const STOP_WAIT_MAX: Duration = Duration::from_secs(10);

pub(crate) fn is_possible() -> bool {
    find_program("strace").is_some()
}

/// Syncs for each acknowledged write. `strace` slows the servers down: this is no measure of speed.
pub(crate) async fn per_write(cluster: &Cluster, clients: usize) -> io::Result<f64> {
    let output = cluster.layout.folder().join("strace");
    let mut command = Command::new("strace");
    command.args(["-f", "-q", "-c", "-e", &format!("trace={CALLS}"), "-o"]).arg(&output);
    for process in cluster.process_ids() {
        command.args(["-p", &process.to_string()]);
    }
    let spawned = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn();
    let mut strace = Process(spawned?);
    sleep(ATTACH_SPAN).await;
    let load = load::run(cluster, clients, WARM, SPAN).await?;
    stop(&mut strace.0).await?;
    Ok(calls(&fs::read_to_string(&output)?) as f64 / load.acknowledged.max(1) as f64)
}

async fn stop(strace: &mut Child) -> io::Result<()> {
    let process = i32::try_from(strace.id()).ok().and_then(Pid::from_raw);
    kill_process(process.ok_or(io::ErrorKind::NotFound)?, Signal::INT)?;
    let until = Instant::now() + STOP_WAIT_MAX;
    while strace.try_wait()?.is_none() {
        if Instant::now() > until {
            return Err(io::Error::other("strace does not let go"));
        }
        sleep(Duration::from_millis(5)).await;
    }
    Ok(())
}

/// The calls in a summary of `strace -c`: lines of share, seconds, each, calls, perhaps errors,
/// name.
fn calls(summary: &str) -> u64 {
    let lines = summary.lines().filter(|line| {
        let name = line.split_whitespace().last().unwrap_or_default();
        CALLS.split(',').any(|call| call == name)
    });
    lines.filter_map(|line| line.split_whitespace().nth(3)?.parse::<u64>().ok()).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_summary_is_read() {
        let summary = "\
% time     seconds  usecs/call     calls    errors syscall
------ ----------- ----------- --------- --------- ----------------
 99.00    0.200000         100      2000           fdatasync
  1.00    0.002000         100        20         1 fsync
------ ----------- ----------- --------- --------- ----------------
100.00    0.202000         100      2020         1 total
";
        assert_eq!(calls(summary), 2020);
        assert_eq!(calls(""), 0);
    }
}
