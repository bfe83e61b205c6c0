//! How a long measurement tells where it is, and is stopped: after every pass over a batch, at the latest.

use std::cell::Cell;

use serde::Serialize;

use crate::error::{Error, Result};

/// Where a measurement is.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Progress {
    /// Batches that have gone through the model.
    pub done: u64,
    /// All that are planned; measures that converge early need fewer.
    pub total: u64,
}

/// What a caller hands to a measurement.
pub struct Monitor<'a> {
    report: &'a dyn Fn(Progress),
    interrupted: &'a dyn Fn() -> bool,
    done: Cell<u64>,
    total: Cell<u64>,
}

impl<'a> Monitor<'a> {
    pub fn new(report: &'a dyn Fn(Progress), interrupted: &'a dyn Fn() -> bool) -> Self {
        Self { report, interrupted, done: Cell::new(0), total: Cell::new(0) }
    }

    pub(crate) fn plan(&self, batches: usize) {
        self.total.set(self.total.get() + batches as u64);
    }

    /// Counts a batch.
    ///
    /// # Errors
    /// [`Error::Stopped`] once the caller wants no more.
    pub(crate) fn batch_done(&self) -> Result<()> {
        self.done.set(self.done.get() + 1);
        (self.report)(Progress { done: self.done.get(), total: self.total.get().max(self.done.get()) });
        if (self.interrupted)() { Err(Error::Stopped) } else { Ok(()) }
    }
}
