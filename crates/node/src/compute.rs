//! The one thread that computes for JavaScript. Each OS thread that enters OpenMP makes a team of its own, so work goes
//! here, in order, and neither to the event loop's thread nor to a pool.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::mpsc::{Sender, channel};
use std::thread::JoinHandle;

use flatmin_torch_ext::{set_flush_denormal, settle_num_threads};
use futures_channel::oneshot;
use napi::Env;
use napi::bindgen_prelude::{PromiseRaw, ToNapiValue};
use parking_lot::Mutex;

use crate::errors::failure;
use crate::lifecycle;

type Job = Box<dyn FnOnce() + Send>;

struct Worker {
    jobs: Sender<Job>,
    thread: JoinHandle<()>,
}

static WORKER: Mutex<Option<Worker>> = Mutex::new(None);

/// Runs a job on the compute thread; the promise resolves with its answer.
pub fn promise<'env, T>(
    env: &'env Env,
    job: impl FnOnce() -> napi::Result<T> + Send + 'static,
) -> napi::Result<PromiseRaw<'env, T>>
where
    T: ToNapiValue + Send + 'static,
{
    let answer = submit(job)?;
    env.spawn_future(async move { answer.await.unwrap_or_else(|_| Err(ended())) })
}

/// As [`promise`], for answers that need the JavaScript thread to become JavaScript values.
pub fn promise_with<'env, T, V>(
    env: &'env Env,
    job: impl FnOnce() -> napi::Result<T> + Send + 'static,
    convert: impl FnOnce(&'env Env, T) -> napi::Result<V> + 'static,
) -> napi::Result<PromiseRaw<'env, V>>
where
    T: Send + 'static,
    V: ToNapiValue,
{
    let answer = submit(job)?;
    env.spawn_future_with_callback(async move { answer.await.unwrap_or_else(|_| Err(ended())) }, convert)
}

/// Runs a job on the compute thread, whose answer may be ignored.
pub fn submit<T: Send + 'static>(
    job: impl FnOnce() -> napi::Result<T> + Send + 'static,
) -> napi::Result<oneshot::Receiver<napi::Result<T>>> {
    if lifecycle::ending() {
        return Err(ended());
    }
    let (sender, receiver) = oneshot::channel();
    let job: Job = Box::new(move || {
        let answer = catch_unwind(AssertUnwindSafe(job)).unwrap_or_else(|panic| Err(panicked(panic.as_ref())));
        // Nobody may be waiting any more.
        let _ = sender.send(answer);
    });
    let mut worker = WORKER.lock();
    let jobs = match &*worker {
        Some(running) => &running.jobs,
        None => &worker.insert(start()?).jobs,
    };
    jobs.send(job).map_err(|_| ended())?;
    Ok(receiver)
}

/// Lets the thread finish the job it is in and waits for its end.
pub fn shut_down() {
    let Some(Worker { jobs, thread }) = WORKER.lock().take() else { return };
    drop(jobs);
    // A job's panic was caught, so there is nothing to learn from the result.
    let _ = thread.join();
}

fn start() -> napi::Result<Worker> {
    let (jobs, queue) = channel::<Job>();
    let body = move || {
        set_flush_denormal(true);
        settle_num_threads(None);
        for job in queue {
            // A job that is dropped rejects its promise.
            if !lifecycle::ending() {
                job();
            }
        }
    };
    let thread = std::thread::Builder::new().name("flatmin-compute".into()).spawn(body);
    let thread = thread.map_err(|error| failure("ERR_FLATMIN_INTERNAL", format!("cannot start a thread: {error}")))?;
    Ok(Worker { jobs, thread })
}

fn ended() -> napi::Error {
    failure("ERR_FLATMIN_INTERNAL", "the process is ending")
}

fn panicked(panic: &(dyn std::any::Any + Send)) -> napi::Error {
    let text =
        panic.downcast_ref::<&str>().map(ToString::to_string).or_else(|| panic.downcast_ref::<String>().cloned());
    failure("ERR_FLATMIN_INTERNAL", text.unwrap_or_else(|| "a native call panicked".into()))
}
