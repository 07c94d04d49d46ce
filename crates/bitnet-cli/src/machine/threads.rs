//! How many threads are worth starting.

use std::{sync::Once, thread};

use crate::terminal;

/// Threads for each processor beyond which all time goes into waiting for each other.
const EACH: usize = 8;
/// So many are taken on any machine.
const ALWAYS: usize = 64;

/// The number that was asked for, or less with a warning: every step of a model waits for all threads, and on two processors 64
/// answer in a tenth of a second what 1,000 do not in a minute. Results do not depend on it.
pub fn threads(asked: u16) -> usize {
    let processors = thread::available_parallelism().map_or(1, usize::from);
    let most = most(processors);
    let asked = usize::from(asked);
    if asked > most {
        static ONCE: Once = Once::new();
        ONCE.call_once(|| {
            terminal::warning(format_args!(
                "{asked} threads on {processors} processors would only wait for each other: {most} are used"
            ));
        });
    }
    asked.min(most)
}

fn most(processors: usize) -> usize {
    (EACH * processors).max(ALWAYS)
}

#[cfg(test)]
mod tests {
    #[test]
    fn large_machines_may_use_all_they_have() {
        assert_eq!([super::most(1), super::most(2), super::most(128)], [64, 64, 1024]);
    }
}
