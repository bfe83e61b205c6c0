//! How a run is steered from outside: stop, abort, and the answers it waits for at the ends of epochs. Another process
//! stops it with a file: that works from any program, and over a network file system.

use std::fs;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex};
use serde::Deserialize;

use crate::channel::StepPacer;
use crate::events::EndReason;

/// Looking for a file takes microseconds, but not on every file system.
const LOOK_EVERY: Duration = Duration::from_millis(200);

/// The answer to an epoch event of a run with `awaitEpochEnd`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Acknowledgement {
    /// Ends the run as `stop()` does.
    pub stop: bool,
    /// A new learning rate for the first group, schedule not included; the other groups keep their ratio to it.
    pub lr: Option<f64>,
}

#[derive(Default)]
struct State {
    halt: Option<EndReason>,
    answers: std::collections::VecDeque<Acknowledgement>,
    stop_file: Option<StopFile>,
}

struct StopFile {
    path: PathBuf,
    pacer: StepPacer,
}

impl StopFile {
    /// True once the file lies there; it is taken away, so that the run can be resumed.
    fn found(&mut self) -> bool {
        self.pacer.due(Instant::now()) && fs::remove_file(&self.path).is_ok()
    }
}

/// Shared by the run's handle and its thread.
#[derive(Clone, Default)]
pub struct Control(Arc<(Mutex<State>, Condvar)>);

impl Control {
    /// Asks the loop to end after the step that it is in. The first reason stays.
    pub fn halt(&self, reason: EndReason) {
        let (state, changed) = &*self.0;
        state.lock().halt.get_or_insert(reason);
        changed.notify_all();
    }

    /// From now on a file of that name stops the run.
    pub fn heed(&self, path: PathBuf) {
        self.0.0.lock().stop_file = Some(StopFile { path, pacer: StepPacer::new(LOOK_EVERY) });
    }

    /// Why the loop should end, if it should.
    pub fn halted(&self) -> Option<EndReason> {
        let mut state = self.0.0.lock();
        if state.halt.is_none() && state.stop_file.as_mut().is_some_and(StopFile::found) {
            state.halt = Some(EndReason::Stopped);
        }
        state.halt
    }

    pub fn acknowledge(&self, answer: Acknowledgement) {
        let (state, changed) = &*self.0;
        state.lock().answers.push_back(answer);
        changed.notify_all();
    }

    /// Waits for an answer; None if the run is halted instead.
    pub fn wait_for_answer(&self) -> Option<Acknowledgement> {
        let (state, changed) = &*self.0;
        let mut state = state.lock();
        loop {
            if state.halt.is_some() {
                return None;
            }
            if let Some(answer) = state.answers.pop_front() {
                return Some(answer);
            }
            changed.wait(&mut state);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_reason_stays() {
        let control = Control::default();
        assert_eq!(control.halted(), None);
        control.halt(EndReason::Stopped);
        control.halt(EndReason::Aborted);
        assert_eq!(control.halted(), Some(EndReason::Stopped));
    }

    #[test]
    fn a_file_stops_and_is_taken_away() {
        let root = tempfile::tempdir().unwrap();
        let path = root.path().join("stop");
        let control = Control::default();
        fs::write(&path, "").unwrap();
        control.heed(path.clone());
        assert_eq!(control.halted(), Some(EndReason::Stopped));
        assert!(!path.exists());
        assert_eq!(control.halted(), Some(EndReason::Stopped));
    }

    #[test]
    fn a_waiting_loop_gets_its_answer_or_is_halted() {
        let control = Control::default();
        let waiting = control.clone();
        let thread = std::thread::spawn(move || (waiting.wait_for_answer(), waiting.wait_for_answer()));
        let answer = Acknowledgement { stop: false, lr: Some(0.5) };
        control.acknowledge(answer);
        // The second wait has no answer to find: only the halt ends it.
        while !control.0.0.lock().answers.is_empty() {
            std::thread::yield_now();
        }
        control.halt(EndReason::Aborted);
        assert_eq!(thread.join().unwrap(), (Some(answer), None));
    }
}
