//! Signals that ask a process to end: Ctrl-C, a request of the system, a terminal that has gone. While a model writes or a file is
//! half written, the first one raises a flag that the loop sees; at any other time, or a second time, it ends the process at once
//! with the exit status that shells expect.

use std::{
    panic::{AssertUnwindSafe, catch_unwind, resume_unwind},
    sync::{
        Arc, LazyLock, Mutex, PoisonError,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
};

use signal_hook::{
    consts::{SIGINT, SIGTERM},
    flag,
};

use crate::failure::{Failure, Result};

/// Such a signal came while a [`Guard`] was held.
static PRESSED: LazyLock<Arc<AtomicBool>> = LazyLock::new(Arc::default);
/// The last one that came; 0 before the first.
static SIGNAL: LazyLock<Arc<AtomicUsize>> = LazyLock::new(Arc::default);
/// Set when the next signal is to end the process at once.
static DEADLY: LazyLock<Arc<AtomicBool>> = LazyLock::new(|| Arc::new(AtomicBool::new(true)));
/// How many guards are held: parts of the work that stop by themselves.
static GUARDS: Mutex<usize> = Mutex::new(0);

/// The signals that end a process, as far as the system has them.
#[cfg(unix)]
const ENDING: [i32; 3] = [SIGINT, SIGTERM, signal_hook::consts::SIGHUP];
#[cfg(not(unix))]
const ENDING: [i32; 2] = [SIGINT, SIGTERM];

/// Makes signals set flags from here on, instead of ending the process.
pub fn install() -> Result<()> {
    let failed = |e: std::io::Error| Failure::new(format_args!("cannot watch for signals: {e}"));
    for signal in ENDING.into_iter().filter(|&signal| !hangs_up_unheard(signal)) {
        // Actions run in the order of registration: the first signal raises the flags, the second one is deadly.
        let deadly = flag::register_conditional_shutdown(signal, 128 + signal, DEADLY.clone());
        let named = deadly.and_then(|_| flag::register_usize(signal, SIGNAL.clone(), signal as usize));
        let armed = named.and_then(|_| flag::register(signal, DEADLY.clone()));
        armed.and_then(|_| flag::register(signal, PRESSED.clone())).map_err(failed)?;
    }
    // With somebody who listens, a file that grows beyond its limit is an error of the write, which cleans up, and not the end.
    #[cfg(unix)]
    flag::register(signal_hook::consts::SIGXFSZ, Arc::default()).map_err(failed)?;
    Ok(())
}

/// Whether the signal is that of a terminal that has gone, and whoever started us (`nohup`) wants it ignored.
#[cfg(unix)]
fn hangs_up_unheard(signal: i32) -> bool {
    if signal != signal_hook::consts::SIGHUP {
        return false;
    }
    // Only Linux tells without `unsafe`; elsewhere the system's own way of ending stays.
    let told = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let ignored =
        told.lines().find_map(|line| u64::from_str_radix(line.strip_prefix("SigIgn:")?.trim(), 16).ok());
    ignored.is_none_or(|mask| mask >> (signal - 1) & 1 == 1)
}

#[cfg(not(unix))]
fn hangs_up_unheard(_: i32) -> bool {
    false
}

/// The exit status after a signal: 128 and its number, as shells have it.
pub fn status() -> u8 {
    match SIGNAL.load(Ordering::SeqCst) {
        0 => 130,
        signal => u8::try_from(128 + signal).unwrap_or(130),
    }
}

/// Whether the process was asked to end by something other than Ctrl-C, which a conversation outlives.
pub fn ending() -> bool {
    !matches!(SIGNAL.load(Ordering::SeqCst), 0 | 2)
}

/// While it lives, the first signal only raises a flag. There may be several.
pub struct Guard(());

impl Guard {
    pub fn new() -> Self {
        let mut guards = GUARDS.lock().unwrap_or_else(PoisonError::into_inner);
        if *guards == 0 {
            PRESSED.store(false, Ordering::SeqCst);
            DEADLY.store(false, Ordering::SeqCst);
        }
        *guards += 1;
        Self(())
    }

    /// Whether a signal that ends processes has come.
    pub fn pressed(&self) -> bool {
        PRESSED.load(Ordering::SeqCst)
    }

    /// Leaves [`interruptible`] when a signal came.
    pub fn give_way(&self) {
        if self.pressed() {
            resume_unwind(Box::new(Stop));
        }
    }
}

/// What unwinds through a library when a signal came.
struct Stop;

/// Runs `work` so that a signal takes its half-written output away. A library that writes files asks nobody whether to go on, but it
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
        let mut guards = GUARDS.lock().unwrap_or_else(PoisonError::into_inner);
        *guards -= 1;
        if *guards == 0 {
            DEADLY.store(true, Ordering::SeqCst);
        }
    }
}
