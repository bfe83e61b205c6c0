//! An optimizer that a training loop steps while others look at it and turn its knobs: reading never waits for the step
//! in progress, and a changed hyper-parameter takes effect at the next step.

use std::ops::{Deref, DerefMut};
use std::sync::Arc;

use flatmin_optim::{Group, Optimizer, Phase};
use parking_lot::{Mutex, MutexGuard};

use crate::error::{Error, Result};

/// What can be read without waiting.
#[derive(Debug, Clone, PartialEq)]
pub struct OptimizerView {
    pub phase: Phase,
    pub steps: u64,
    pub skipped: u64,
    pub loss_scale: Option<f64>,
    pub groups: Vec<Group>,
}

impl OptimizerView {
    fn of(optimizer: &Optimizer) -> Self {
        Self {
            phase: optimizer.phase(),
            steps: optimizer.steps(),
            skipped: optimizer.skipped(),
            loss_scale: optimizer.loss_scale(),
            groups: optimizer.groups().to_vec(),
        }
    }
}

struct Edit {
    group: usize,
    key: String,
    value: f64,
}

struct Front {
    view: OptimizerView,
    /// Checked against `view`, not yet in the optimizer.
    pending: Vec<Edit>,
}

/// A shared optimizer.
pub struct OptimizerSlot {
    optimizer: Mutex<Optimizer>,
    front: Mutex<Front>,
}

/// Access to the optimizer. When it is dropped, the view is brought up to date.
pub struct OptimizerGuard<'a> {
    slot: &'a OptimizerSlot,
    optimizer: MutexGuard<'a, Optimizer>,
}

impl OptimizerSlot {
    pub fn new(optimizer: Optimizer) -> Arc<Self> {
        let front = Front { view: OptimizerView::of(&optimizer), pending: Vec::new() };
        Arc::new(Self { optimizer: Mutex::new(optimizer), front: Mutex::new(front) })
    }

    /// Waits for the step in progress, and puts pending changes into effect. Whoever locks the model, too, does that first.
    pub fn lock(&self) -> OptimizerGuard<'_> {
        let mut optimizer = self.optimizer.lock();
        for edit in std::mem::take(&mut self.front.lock().pending) {
            // It was accepted by a copy of this very group, so it cannot fail here.
            let _ = optimizer.set_group(edit.group, &edit.key, edit.value);
        }
        OptimizerGuard { slot: self, optimizer }
    }

    pub fn view(&self) -> OptimizerView {
        self.front.lock().view.clone()
    }

    /// Sets a hyper-parameter from the next step on.
    ///
    /// # Errors
    /// `ERR_FLATMIN_OPTION` for an unknown group or name, or a value out of range.
    pub fn set_group(&self, group: usize, key: &str, value: f64) -> Result<()> {
        let mut front = self.front.lock();
        let count = front.view.groups.len();
        let Some(shown) = front.view.groups.get_mut(group) else {
            return Err(Error::option("group", group, format!("an index below {count}")));
        };
        shown.set(key, value)?;
        front.pending.push(Edit { group, key: key.to_owned(), value });
        Ok(())
    }

    /// Gives the first group a learning rate, and the others the same share of it as before, from the next step on.
    ///
    /// # Errors
    /// `ERR_FLATMIN_OPTION` for a value out of range.
    pub fn set_lr(&self, lr: f64) -> Result<()> {
        let before: Vec<f64> = self.view().groups.iter().map(|group| group.lr).collect();
        for (group, rate) in before.iter().enumerate() {
            let share = if group == 0 || before[0] == 0.0 { 1.0 } else { rate / before[0] };
            self.set_group(group, "lr", lr * share)?;
        }
        Ok(())
    }
}

impl Deref for OptimizerGuard<'_> {
    type Target = Optimizer;

    fn deref(&self) -> &Optimizer {
        &self.optimizer
    }
}

impl DerefMut for OptimizerGuard<'_> {
    fn deref_mut(&mut self) -> &mut Optimizer {
        &mut self.optimizer
    }
}

impl Drop for OptimizerGuard<'_> {
    fn drop(&mut self) {
        let mut front = self.slot.front.lock();
        let Front { view, pending } = &mut *front;
        *view = OptimizerView::of(&self.optimizer);
        for edit in pending {
            let _ = view.groups[edit.group].set(&edit.key, edit.value);
        }
    }
}
