//! `BindingDataJob`: work on data sets that takes long, on a thread of its own: it tells how far it is and can be stopped.

use std::ops::ControlFlow;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed};

use flatmin_data::{ContactSheet, PackOptions, Watch, contact_sheet, inspect, pack, verify};
use flatmin_train::Augment;
use futures_channel::oneshot;
use napi::Env;
use napi::bindgen_prelude::PromiseRaw;
use napi_derive::napi;
use parking_lot::Mutex;
use serde::Deserialize;
use serde_json::Value;

use crate::dataset::BindingDataset;
use crate::errors::{OrThrow, failure};
use crate::json::{options, to_json};

#[derive(Default)]
struct Shared {
    done: AtomicUsize,
    total: AtomicUsize,
    stop: AtomicBool,
}

#[napi]
pub struct BindingDataJob {
    shared: Arc<Shared>,
    answer: Mutex<Option<oneshot::Receiver<napi::Result<Value>>>>,
}

/// A job whose JavaScript object is gone has nobody to answer to.
impl Drop for BindingDataJob {
    fn drop(&mut self) {
        self.stop();
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct PreviewOptions {
    rows: usize,
    columns: usize,
    seed: u64,
    epoch: u64,
    augment: Augment,
}

#[napi]
impl BindingDataJob {
    /// Looks at every image.
    #[napi]
    pub fn inspect(set: &BindingDataset, threads: u32) -> napi::Result<Self> {
        let set = set.set()?;
        start(move |watch| to_json(&inspect(&set, threads as usize, watch).or_throw()?))
    }

    /// Writes shards into `directory`.
    #[napi(ts_args_type = "set: BindingDataset, directory: string, options: object, threads: number")]
    pub fn pack(set: &BindingDataset, directory: String, options: Value, threads: u32) -> napi::Result<Self> {
        let set = set.set()?;
        let options: PackOptions = self::options("pack", options)?;
        start(move |watch| to_json(&pack(&set, Path::new(&directory), options, threads as usize, watch).or_throw()?))
    }

    /// Checks the shards of `directory`.
    #[napi]
    pub fn verify(directory: String, threads: u32) -> napi::Result<Self> {
        start(move |watch| to_json(&verify(Path::new(&directory), threads as usize, watch).or_throw()?))
    }

    /// Draws augmented images into a PNG file.
    #[napi(ts_args_type = "set: BindingDataset, file: string, \
                           options: { rows: number, columns: number, seed: number, epoch: number, augment: object }")]
    pub fn preview(set: &BindingDataset, file: String, options: Value) -> napi::Result<Self> {
        let set = set.set()?;
        let PreviewOptions { rows, columns, seed, epoch, augment } = self::options("preview", options)?;
        let transform = augment.transform(set.normalization().clone());
        let sheet = ContactSheet { rows, columns, seed, epoch };
        start(move |_| to_json(&contact_sheet(&set, transform, sheet, Path::new(&file)).or_throw()?))
    }

    /// The report, once; rejects with what went wrong, or when the job was stopped.
    #[napi(ts_return_type = "Promise<object>")]
    pub fn result<'env>(&self, env: &'env Env) -> napi::Result<PromiseRaw<'env, Value>> {
        let answer = self.answer.lock().take();
        let answer = answer.ok_or_else(|| failure("ERR_FLATMIN_BUSY", "the result of this job was taken already"))?;
        let ended = || failure("ERR_FLATMIN_INTERNAL", "the job ended without an answer: this is a fault of flatmin");
        env.spawn_future(async move { answer.await.unwrap_or_else(|_| Err(ended())) })
    }

    /// Items done, and all of them (0: not known yet).
    #[napi]
    pub fn progress(&self) -> Vec<u32> {
        [&self.shared.done, &self.shared.total].map(|count| count.load(Relaxed) as u32).to_vec()
    }

    /// Ends the job after the item it is at.
    #[napi]
    pub fn stop(&self) {
        self.shared.stop.store(true, Relaxed);
    }
}

fn start(work: impl FnOnce(Watch<'_>) -> napi::Result<Value> + Send + 'static) -> napi::Result<BindingDataJob> {
    let shared = Arc::new(Shared::default());
    let (send, receive) = oneshot::channel();
    let watched = Arc::clone(&shared);
    let body = move || {
        let answer = work(&mut |progress| {
            watched.done.store(progress.done, Relaxed);
            watched.total.store(progress.total, Relaxed);
            if watched.stop.load(Relaxed) { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        });
        // Nobody may be waiting any more.
        let _ = send.send(answer);
    };
    let thread = std::thread::Builder::new().name("flatmin-data-job".into()).spawn(body);
    thread.map_err(|error| failure("ERR_FLATMIN_INTERNAL", format!("cannot start a thread: {error}")))?;
    Ok(BindingDataJob { shared, answer: Mutex::new(Some(receive)) })
}
