//! `BindingBatches`: one epoch of a data set, read batch by batch; threads prepare what comes next.

use std::sync::Arc;

use flatmin_optim::Target;
use flatmin_train::{Feed, FeedConfig};
use napi::Env;
use napi::bindgen_prelude::{Object, PromiseRaw};
use napi_derive::napi;
use parking_lot::Mutex;
use serde_json::Value;

use crate::compute;
use crate::dataset::BindingDataset;
use crate::errors::OrThrow;
use crate::json::options;
use crate::tensor::BindingTensor;

#[napi]
pub struct BindingBatches {
    /// None once it is closed.
    feed: Arc<Mutex<Option<Feed>>>,
}

impl Drop for BindingBatches {
    fn drop(&mut self) {
        let feed = self.feed.clone();
        // The event loop does not wait for the threads' end. When the process is ending, nobody else can.
        let _ = compute::submit(move || {
            feed.lock().take();
            Ok(())
        });
    }
}

#[napi]
impl BindingBatches {
    /// Starts the threads. `epoch` and `startBatch` count from 0.
    #[napi(ts_args_type = "set: BindingDataset, config: object, epoch: number, startBatch: number")]
    pub fn start(set: &BindingDataset, config: Value, epoch: u32, start_batch: u32) -> napi::Result<Self> {
        let config: FeedConfig = options("batches", config)?;
        let epoch = u64::from(epoch);
        let sets = vec![(0, set.set()?)];
        let feed = Feed::new(sets, &config, epoch..epoch + 1, start_batch as usize).or_throw()?;
        Ok(Self { feed: Arc::new(Mutex::new(Some(feed))) })
    }

    /// The next batch: images [batch, channels, height, width], and classes [batch] or, of a mixed batch, their
    /// distribution [batch, classes]. Null after the last.
    #[napi(ts_return_type = "Promise<{ images: BindingTensor, labels: BindingTensor } | null>")]
    pub fn next<'env>(&self, env: &'env Env) -> napi::Result<PromiseRaw<'env, Option<Object<'env>>>> {
        let feed = self.feed.clone();
        let job = move || {
            let mut feed = feed.lock();
            let Some(open) = feed.as_mut() else { return Ok(None) };
            let Some(loaded) = open.next() else { return Ok(None) };
            let loaded = loaded.or_throw()?;
            let tensors = open.tensors(&loaded).or_throw()?;
            open.recycle(loaded);
            Ok(Some(tensors))
        };
        compute::promise_with(env, job, |env, batch| {
            let Some((images, Target::Classes(labels) | Target::Dense(labels))) = batch else { return Ok(None) };
            let mut record = Object::new(env)?;
            record.set("images", BindingTensor::new(env, images)?)?;
            record.set("labels", BindingTensor::new(env, labels)?)?;
            Ok(Some(record))
        })
    }

    /// Ends the threads; resolves when they have ended. A second call does nothing.
    #[napi(ts_return_type = "Promise<void>")]
    pub fn close<'env>(&self, env: &'env Env) -> napi::Result<PromiseRaw<'env, ()>> {
        let feed = self.feed.clone();
        compute::promise(env, move || {
            feed.lock().take();
            Ok(())
        })
    }
}
