//! What servers ask of their state machines: each piece of work is begun, done, and told to the
//! core.

use alloc::rc::Rc;

use super::cluster::{Cluster, ReadEnd};
use super::event::Event;
use super::files::Job;
use super::state_machine::StateMachine;
use super::trace::What;
use super::violation::{Verdict, hold};
use super::worker::Work;

impl<S: StateMachine> Cluster<S> {
    pub(super) fn begin_work(&mut self, at: usize) {
        let server = &mut self.servers[at];
        if let Some(ends) = server.worker.begin(self.now) {
            let life = server.life;
            self.queue.push(ends, Event::WorkDone { at, life });
        }
    }

    /// The state machine has finished its current work.
    pub(super) fn on_work_done(&mut self, at: usize) {
        let server = &mut self.servers[at];
        if server.is_paused {
            server.worker.is_late = true;
            return;
        }
        let Some(work) = server.worker.end() else { return };
        let verdict = self.do_work(at, work);
        if verdict.is_err() {
            self.note_verdict(verdict);
        }
        self.turn(at);
    }

    /// Reports the job that ended while the server was paused, if there is one.
    pub(super) fn answer_late_work(&mut self, at: usize) {
        if self.servers[at].worker.is_late {
            self.on_work_done(at);
        }
    }

    fn do_work(&mut self, at: usize, work: Work<S::Command>) -> Verdict {
        let now = self.now;
        let server = &mut self.servers[at];
        let (id, application) = (server.id, &mut server.application);
        let Some(raft) = server.raft.as_mut() else { return Ok(()) };
        match work {
            Work::Apply(entries) => {
                let last = application.apply(now, entries, &mut self.history, &mut self.counts);
                self.trace.note(now, id, What::Applied(last));
                raft.applied(last);
                self.observer.on_applied(id, last, &application.machine)?;
            }
            Work::Restore(meta) => {
                let last = meta.last.index;
                let file = server.files.get(meta.last);
                hold!(
                    file.is_some(),
                    SnapshotContent,
                    "server {id} cannot restore {last}: its file is gone"
                );
                application.restore(last, &file.unwrap_or_default());
                self.counts.restores += 1;
                self.trace.note(now, id, What::Restored(last));
                raft.applied(last);
            }
            Work::Take(meta) => {
                let bytes: Rc<[u8]> = application.machine.snapshot().into();
                self.observer.on_take_snapshot(id, &meta, application.applied, &bytes)?;
                let mut jobs = [Job::Take(meta, bytes)].into();
                self.begin_jobs(at, &mut jobs);
            }
            Work::Serve(read, index) => {
                let applied = application.applied;
                hold!(
                    applied >= index,
                    FreshReads,
                    "server {id} serves a read at {index} with {applied} applied"
                );
                let (history, counts) = (&mut self.history, &mut self.counts);
                if !application.serve_read(now, read, history, counts) {
                    self.reads.push_back(ReadEnd { server: id, id: read, index: Some(index) });
                }
            }
        }
        Ok(())
    }
}
