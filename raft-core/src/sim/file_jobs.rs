//! What servers ask of their files: each job is begun, ends, and is answered.

use alloc::vec::Vec;

use super::cluster::Cluster;
use super::event::Event;
use super::files::Job;
use super::state_machine::StateMachine;
use super::trace::What;
use crate::output::WriteSnapshot;

impl<S: StateMachine> Cluster<S> {
    /// Begins the jobs that the core requested.
    pub(super) fn begin_jobs(&mut self, at: usize, jobs: &mut Vec<Job<S::Command>>) {
        let server = &mut self.servers[at];
        for job in jobs.drain(..) {
            let (done, life) = (server.files.done_at(self.now), server.life);
            self.queue.push(done, Event::FileDone { at, life, job: job.into() });
        }
    }

    /// A job has ended.
    pub(super) fn on_file_done(&mut self, at: usize, job: Job<S::Command>) {
        let server = &mut self.servers[at];
        server.files.late.push_back(job);
        self.answer_jobs(at);
    }

    /// Reports all jobs that have ended, unless the server is paused or its disk is stuck.
    pub(super) fn answer_jobs(&mut self, at: usize) {
        loop {
            let server = &mut self.servers[at];
            if server.is_paused || server.disk.is_stuck || server.raft.is_none() {
                return;
            }
            let Some(job) = server.files.late.pop_front() else { return };
            let failed = server.files.fail;
            self.counts.failed_files += u64::from(failed);
            self.answer_job(at, job, failed);
            self.turn(at);
        }
    }

    fn answer_job(&mut self, at: usize, job: Job<S::Command>, failed: bool) {
        let server = &mut self.servers[at];
        let (id, files) = (server.id, &mut server.files);
        let Some(raft) = &mut server.raft else { return };
        match job {
            Job::Take(meta, _) if failed => {
                self.trace.note(self.now, id, What::SnapshotFailed(meta.last.index));
                raft.snapshot_failed();
            }
            Job::Take(meta, bytes) => {
                self.counts.snapshots += 1;
                self.trace.note(self.now, id, What::TookSnapshot(meta.last.index));
                files.put(meta.last, bytes);
                raft.snapshot_taken(meta.last.index);
            }
            Job::Read(read) => {
                let file = files.get(read.snapshot).filter(|_| !failed);
                let Some(bytes) = file else {
                    return raft.snapshot_unreadable(read.to, read.snapshot);
                };
                let begin = (read.offset as usize).min(bytes.len());
                let end = begin.saturating_add(read.bytes_max).min(bytes.len());
                let chunk = S::chunk(&bytes[begin..end]);
                let done = begin + chunk.as_ref().len() == bytes.len();
                raft.snapshot_read(read.to, read.snapshot, read.offset, chunk, done);
            }
            Job::Write(write) => {
                let WriteSnapshot { install, snapshot, offset, chunk, done } = write;
                let written = files.append(snapshot.last, offset, chunk.as_ref());
                let Some(written) = written.filter(|_| !failed) else {
                    files.partial = None;
                    return raft.snapshot_unwritable(install);
                };
                if done {
                    if let Some((_, bytes)) = files.partial.take() {
                        files.put(snapshot.last, bytes.into());
                    }
                }
                raft.snapshot_written(install, written);
            }
        }
    }
}
