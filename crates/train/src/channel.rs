//! The queue of a run's events. Step events are coalesced, the latest wins, so a run that nobody reads goes on at full
//! speed and holds little; all other events are kept until they are read.

use std::collections::VecDeque;
use std::future::poll_fn;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex};

use crate::error::{Error, Result};
use crate::events::Event;

#[derive(Default)]
struct State {
    queue: VecDeque<Event>,
    failure: Option<Error>,
    closed: bool,
    wakers: Vec<Waker>,
}

#[derive(Default)]
struct Shared {
    state: Mutex<State>,
    changed: Condvar,
}

impl Shared {
    fn change(&self, edit: impl FnOnce(&mut State)) {
        let mut state = self.state.lock();
        edit(&mut state);
        let wakers = std::mem::take(&mut state.wakers);
        drop(state);
        self.changed.notify_all();
        for waker in wakers {
            waker.wake();
        }
    }
}

/// The loop's end. Dropping it ends the stream.
pub struct EventSender(Arc<Shared>);

/// The reader's end: `next()` for async code, `next_blocking()` for threads.
#[derive(Clone)]
pub struct EventReceiver(Arc<Shared>);

pub fn event_channel() -> (EventSender, EventReceiver) {
    let shared = Arc::new(Shared::default());
    (EventSender(shared.clone()), EventReceiver(shared))
}

impl EventSender {
    /// Queues an event; a step event takes the place of one that is still unread.
    pub fn send(&self, event: Event) {
        self.0.change(|state| {
            if matches!(event, Event::Step(_)) {
                state.queue.retain(|queued| !matches!(queued, Event::Step(_)));
            }
            state.queue.push_back(event);
        });
    }

    /// Ends the stream with an error, which the reader gets after all events.
    pub fn fail(&self, error: Error) {
        self.0.change(|state| {
            state.failure = Some(error);
            state.closed = true;
        });
    }
}

impl Drop for EventSender {
    fn drop(&mut self) {
        self.0.change(|state| state.closed = true);
    }
}

impl State {
    /// The next event, the failure, or None after the end; `Pending` while there is none of these.
    fn take(&mut self) -> Poll<Result<Option<Event>>> {
        if let Some(event) = self.queue.pop_front() {
            return Poll::Ready(Ok(Some(event)));
        }
        if let Some(error) = self.failure.take() {
            return Poll::Ready(Err(error));
        }
        if self.closed { Poll::Ready(Ok(None)) } else { Poll::Pending }
    }
}

impl EventReceiver {
    /// The next event, or None after the last.
    ///
    /// # Errors
    /// What ended the run, once, after all events were read.
    pub async fn next(&self) -> Result<Option<Event>> {
        poll_fn(|context| self.poll_next(context)).await
    }

    pub fn poll_next(&self, context: &mut Context<'_>) -> Poll<Result<Option<Event>>> {
        let mut state = self.0.state.lock();
        let next = state.take();
        if next.is_pending() && !state.wakers.iter().any(|waker| waker.will_wake(context.waker())) {
            state.wakers.push(context.waker().clone());
        }
        next
    }

    /// As [`Self::next`], blocking the thread.
    pub fn next_blocking(&self) -> Result<Option<Event>> {
        let mut state = self.0.state.lock();
        loop {
            if let Poll::Ready(next) = state.take() {
                return next;
            }
            self.0.changed.wait(&mut state);
        }
    }
}

/// Says when the next step event is due: the first step at once, then at most one an interval.
pub struct StepPacer {
    interval: Duration,
    last: Option<Instant>,
}

impl StepPacer {
    pub fn new(interval: Duration) -> Self {
        Self { interval, last: None }
    }

    pub fn due(&mut self, now: Instant) -> bool {
        let due = self.last.is_none_or(|last| now.duration_since(last) >= self.interval);
        if due {
            self.last = Some(now);
        }
        due
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::events::{CheckpointEvent, CheckpointKind, StepEvent};
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::task::Wake;

    fn step(step: u64) -> Event {
        Event::Step(StepEvent {
            data_seconds: 0.0,
            epoch: 1,
            step,
            total_steps: 9,
            loss: 1.0,
            sharpness: None,
            accuracy: 0.5,
            lr: 0.1,
            rho: None,
            momentum: 0.9,
            gradient_norm: 1.0,
            loss_scale: None,
            update_norm: None,
            weight_norm: None,
            images_per_second: 1.0,
            eta_seconds: 1.0,
            skipped_steps: 0,
            device_memory_bytes: None,
        })
    }

    fn checkpoint(epoch: u64) -> Event {
        let kind = CheckpointKind::Last;
        Event::Checkpoint(CheckpointEvent { epoch, path: "last".into(), kind, metric: None })
    }

    fn drain(receiver: &EventReceiver) -> Vec<Event> {
        std::iter::from_fn(|| receiver.next_blocking().unwrap()).collect()
    }

    #[test]
    fn the_latest_step_wins_and_nothing_else_is_lost() {
        let (sender, receiver) = event_channel();
        for event in [step(1), checkpoint(1), step(2), checkpoint(2), step(3), step(4)] {
            sender.send(event);
        }
        drop(sender);
        assert_eq!(drain(&receiver), [checkpoint(1), checkpoint(2), step(4)]);
        assert_eq!(receiver.next_blocking().unwrap(), None);
    }

    #[test]
    fn a_failure_comes_once_after_all_events() {
        let (sender, receiver) = event_channel();
        sender.send(checkpoint(1));
        sender.fail(Error::NonFinite { found: "step 5".into() });
        assert_eq!(receiver.next_blocking().unwrap(), Some(checkpoint(1)));
        assert_eq!(receiver.next_blocking().unwrap_err().code(), "ERR_FLATMIN_NON_FINITE");
        assert_eq!(receiver.next_blocking().unwrap(), None);
    }

    #[test]
    fn a_waiting_task_is_woken() {
        #[derive(Default)]
        struct Count(AtomicUsize);
        impl Wake for Count {
            fn wake(self: Arc<Self>) {
                self.0.fetch_add(1, Ordering::SeqCst);
            }
        }
        let (sender, receiver) = event_channel();
        let count = Arc::new(Count::default());
        let waker = Waker::from(count.clone());
        let mut context = Context::from_waker(&waker);
        assert!(receiver.poll_next(&mut context).is_pending());
        assert!(receiver.poll_next(&mut context).is_pending());
        sender.send(checkpoint(1));
        assert_eq!(count.0.load(Ordering::SeqCst), 1);
        assert!(matches!(receiver.poll_next(&mut context), Poll::Ready(Ok(Some(_)))));
        assert!(receiver.poll_next(&mut context).is_pending());
        drop(sender);
        assert_eq!(count.0.load(Ordering::SeqCst), 2);
        assert!(matches!(receiver.poll_next(&mut context), Poll::Ready(Ok(None))));
    }

    #[test]
    fn a_reader_on_another_thread_sees_everything() {
        let (sender, receiver) = event_channel();
        let reader = std::thread::spawn(move || drain(&receiver));
        (1..=100).for_each(|epoch| sender.send(checkpoint(epoch)));
        drop(sender);
        assert_eq!(reader.join().unwrap(), (1..=100).map(checkpoint).collect::<Vec<_>>());
    }

    #[test]
    fn pacing() {
        let mut pacer = StepPacer::new(Duration::from_millis(50));
        let start = Instant::now();
        let due: Vec<u64> = (0..200).step_by(10).filter(|&at| pacer.due(start + Duration::from_millis(at))).collect();
        assert_eq!(due, [0, 50, 100, 150]);
    }
}
