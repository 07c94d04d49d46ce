//! Progress bars on standard error, for a person who waits longer than a moment.

use std::{
    sync::OnceLock,
    time::{Duration, Instant},
};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use crate::terminal;

/// A bar that comes after this long does not flash by.
const PATIENCE: Duration = Duration::from_millis(400);
/// How often a bar is drawn anew in a second.
const RATE: u8 = 10;

/// What the numbers of a bar count.
#[derive(Clone, Copy)]
pub enum Unit {
    Bytes,
    Items,
}

/// A bar that appears when the work takes noticeably long, standard error is a terminal, and `--quiet` is not given.
pub struct ProgressMeter {
    bar: ProgressBar,
    started: Instant,
    shown: OnceLock<()>,
    /// Set when the first number comes.
    begun: OnceLock<()>,
}

impl ProgressMeter {
    /// A bar over `total`, labelled by `what`.
    pub fn new(what: &str, total: u64, unit: Unit) -> Self {
        let bar = ProgressBar::with_draw_target(Some(total), ProgressDrawTarget::hidden());
        let counts = match unit {
            Unit::Bytes => "{decimal_bytes}/{decimal_total_bytes} {decimal_bytes_per_sec} {eta}",
            Unit::Items => "{pos}/{len} {eta}",
        };
        // The template is a constant of ours; without it the library's own style is as good.
        if let Ok(style) = ProgressStyle::with_template(&format!("{{msg}} [{{wide_bar}}] {counts}")) {
            bar.set_style(style.progress_chars("=> "));
        }
        bar.set_message(terminal::name(what));
        Self { bar, started: Instant::now(), shown: OnceLock::new(), begun: OnceLock::new() }
    }

    /// Sets how much of the work is done.
    pub fn set(&self, done: u64, total: u64) {
        self.bar.set_length(total);
        if !terminal::quiet() && self.started.elapsed() >= PATIENCE {
            // A target that is not a terminal stays hidden: indicatif sees to that.
            self.shown.get_or_init(|| self.bar.set_draw_target(ProgressDrawTarget::stderr_with_hz(RATE)));
        }
        self.bar.set_position(done);
        // What was done before, such as the first half of a download, says nothing about the speed of the rest.
        self.begun.get_or_init(|| self.bar.reset_eta());
    }
}

impl Drop for ProgressMeter {
    fn drop(&mut self) {
        self.bar.finish_and_clear();
    }
}
