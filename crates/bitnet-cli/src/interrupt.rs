//! Ctrl-C. While a model writes, it raises a flag that the loop sees before the next token; at any other time, or
//! pressed twice, it ends the process at once with the exit status that shells expect.

use std::{
    panic::{AssertUnwindSafe, catch_unwind, resume_unwind},
    sync::{
        Arc, LazyLock,
        atomic::{AtomicBool, Ordering},
    },
};

use signal_hook::{consts::SIGINT, flag};

use crate::failure::{Failure, INTERRUPTED, Result};

/// Ctrl-C was pressed while [`Guard`] was held.
static PRESSED: LazyLock<Arc<AtomicBool>> = LazyLock::new(Arc::default);
/// The next Ctrl-C ends the process.
static DEADLY: LazyLock<Arc<AtomicBool>> = LazyLock::new(|| Arc::new(AtomicBool::new(true)));

/// Takes over the signal.
pub fn install() -> Result<()> {
    let deadly = flag::register_conditional_shutdown(SIGINT, i32::from(INTERRUPTED), DEADLY.clone());
    // Actions run in the order of registration: the first press raises both flags, the second one is deadly.
    let armed = deadly.and_then(|_| flag::register(SIGINT, DEADLY.clone()));
    let raised = armed.and_then(|_| flag::register(SIGINT, PRESSED.clone()));
    raised.map(|_| ()).map_err(|e| Failure::new(format_args!("cannot watch for Ctrl-C: {e}")))
}

/// While it lives, the first Ctrl-C only raises a flag.
pub struct Guard(());

impl Guard {
    pub fn new() -> Self {
        PRESSED.store(false, Ordering::SeqCst);
        DEADLY.store(false, Ordering::SeqCst);
        Self(())
    }

    /// Whether Ctrl-C was pressed.
    pub fn pressed(&self) -> bool {
        PRESSED.load(Ordering::SeqCst)
    }

    /// Leaves [`interruptible`] when Ctrl-C was pressed.
    pub fn give_way(&self) {
        if self.pressed() {
            resume_unwind(Box::new(Stop));
        }
    }
}

/// What unwinds through a library when Ctrl-C is pressed.
struct Stop;

/// Runs `work` so that Ctrl-C takes its half-written output away. A library that writes files asks nobody whether to go on, but it
/// tells its progress, and it cleans up behind itself when that call unwinds ([`Guard::give_way`]).
pub fn interruptible<T>(work: impl FnOnce(Guard) -> Result<T>) -> Result<T> {
    match catch_unwind(AssertUnwindSafe(|| work(Guard::new()))) {
        Ok(done) => done,
        Err(stop) if stop.is::<Stop>() => Err(Failure::Interrupted),
        Err(panic) => resume_unwind(panic),
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        DEADLY.store(true, Ordering::SeqCst);
    }
}
