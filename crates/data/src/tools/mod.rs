//! What people do with a set before they train on it: look at it, pack it into shards, check the shards.

mod atomic;
mod contact_sheet;
mod inspect;
mod manifest;
mod pack;
mod verify;

use std::ops::ControlFlow;

pub use contact_sheet::{ContactSheet, Shown, contact_sheet};
pub use inspect::{Inspection, Spread, inspect};
pub use manifest::{MANIFEST, Manifest, Shard};
pub use pack::{PackOptions, pack};
pub use verify::{Verification, verify};

use crate::error::{Error, Result};
use crate::image::{Image, ImageSource, decode_image};

/// Messages that are kept for reports; all are counted.
const MESSAGES_KEPT: usize = 1000;

/// How far a tool has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Progress {
    pub done: usize,
    pub total: usize,
}

/// Is told how far a tool has come, and may stop it.
pub type Watch<'a> = &'a mut dyn FnMut(Progress) -> ControlFlow<()>;

fn advance(watch: Watch<'_>, done: usize, total: usize) -> Result<()> {
    match watch(Progress { done, total }) {
        ControlFlow::Continue(()) => Ok(()),
        ControlFlow::Break(()) => Err(Error::Stopped),
    }
}

/// Decodes an image that users know by `name`.
fn decode(bytes: &[u8], name: &str) -> Result<Image> {
    decode_image(ImageSource::Bytes(bytes)).map_err(|error| match error {
        Error::Image { message, .. } => Error::Image { image: name.to_owned(), message },
        other => other,
    })
}

/// Faults by name: all counted, the first 1,000 kept.
#[derive(Default)]
struct Messages {
    count: usize,
    kept: Vec<String>,
}

impl Messages {
    fn add(&mut self, message: String) {
        self.count += 1;
        if self.kept.len() < MESSAGES_KEPT {
            self.kept.push(message);
        }
    }
}
