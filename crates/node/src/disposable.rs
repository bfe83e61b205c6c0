//! Native objects that can be freed before the garbage collector comes: `dispose()` twice is fine, use afterwards is a
//! coded error.

use parking_lot::Mutex;

use crate::errors::failure;

/// What a class holds until it is disposed of.
pub struct Disposable<T> {
    what: &'static str,
    value: Mutex<Option<T>>,
}

impl<T> Disposable<T> {
    pub fn new(what: &'static str, value: T) -> Self {
        Self { what, value: Mutex::new(Some(value)) }
    }

    /// Lets `read` look at the value.
    ///
    /// # Errors
    /// `ERR_FLATMIN_DISPOSED` after [`Self::dispose`].
    pub fn with<R>(&self, read: impl FnOnce(&T) -> R) -> napi::Result<R> {
        let value = self.value.lock();
        let disposed =
            || failure("ERR_FLATMIN_DISPOSED", format!("this {} was disposed of; create a new one", self.what));
        value.as_ref().map(read).ok_or_else(disposed)
    }

    /// Frees the value, or leaves that to whoever still works with it.
    pub fn dispose(&self) {
        self.value.lock().take();
    }
}

impl<T: Clone> Disposable<T> {
    /// A handle to the value that stays good when this one is disposed of.
    pub fn get(&self) -> napi::Result<T> {
        self.with(T::clone)
    }
}
