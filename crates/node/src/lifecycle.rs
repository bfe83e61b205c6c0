//! What must end before the process does: libtorch's own tear-down must not meet threads that still compute. So runs are
//! halted and the compute thread is waited for when the process exits, and when the last Node environment goes.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use flatmin_train::Run;
use napi::Env;
use napi::bindgen_prelude::{FnArgs, Function, JsObjectValue, Object, Unknown};
use napi_derive::napi;
use parking_lot::Mutex;

use crate::compute;

/// Node environments (the main thread and workers) that have loaded the addon.
static ENVIRONMENTS: AtomicUsize = AtomicUsize::new(0);
static ENDING: AtomicBool = AtomicBool::new(false);
static RUNS: Mutex<Vec<Arc<Run>>> = Mutex::new(Vec::new());

/// Of `process.on`: the event and its listener.
type OnArguments<'env> = FnArgs<(String, Function<'env, (), ()>)>;

#[napi(module_exports)]
pub fn attach(_exports: Object, env: Env) -> napi::Result<()> {
    ENVIRONMENTS.fetch_add(1, Ordering::SeqCst);
    ENDING.store(false, Ordering::SeqCst);
    env.add_env_cleanup_hook((), |()| detach())?;
    if on_main_thread() { halt_at_exit(env) } else { Ok(()) }
}

/// Listens to `exit`: `process.exit()` and uncaught exceptions go from there straight to C's exit(), where libtorch frees
/// what it made lately before any handler that was registered earlier could run.
fn halt_at_exit(env: Env) -> napi::Result<()> {
    let process: Object = env.get_global()?.get_named_property("process")?;
    let on: Function<OnArguments, Unknown> = process.get_named_property("on")?;
    let listener = env.create_function_from_closure("haltFlatmin", |_| {
        halt();
        Ok(())
    })?;
    on.apply(process, ("exit".to_owned(), listener).into())?;
    Ok(())
}

/// Workers end with their environment's clean-up instead, and the process goes on.
fn on_main_thread() -> bool {
    // SAFETY: both only read numbers of the calling thread.
    unsafe { libc::gettid() == libc::getpid() }
}

/// Remembers a run so that it can be halted at the end of the process.
pub fn register(run: &Arc<Run>) {
    let mut runs = RUNS.lock();
    runs.retain(|run| !run.is_finished());
    runs.push(run.clone());
}

/// True when long work should end early because the process does.
pub fn ending() -> bool {
    ENDING.load(Ordering::SeqCst)
}

fn detach() {
    if ENVIRONMENTS.fetch_sub(1, Ordering::SeqCst) == 1 {
        halt();
    }
}

fn halt() {
    ENDING.store(true, Ordering::SeqCst);
    let runs = std::mem::take(&mut *RUNS.lock());
    for run in &runs {
        run.abort();
    }
    for run in &runs {
        run.join();
    }
    compute::shut_down();
}
