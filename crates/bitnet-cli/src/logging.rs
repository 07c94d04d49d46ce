//! `--verbose`: what the libraries say through `tracing`, one line each on standard error.

use std::{
    fmt::Write,
    sync::atomic::{AtomicU64, Ordering},
};

use tracing::{
    Event, Level, Metadata, Subscriber,
    field::{Field, Visit},
    span::{Attributes, Id, Record},
};

use crate::terminal;

/// Listens at the level that the number of `-v` asks for; without one, to nothing.
pub fn install(verbose: u8) {
    let level = match verbose {
        0 => return,
        1 => Level::INFO,
        2 => Level::DEBUG,
        _ => Level::TRACE,
    };
    // It is the first and only subscriber of this process, so this cannot fail.
    let _ = tracing::subscriber::set_global_default(Lines { level, spans: AtomicU64::new(0) });
}

/// A subscriber that writes events as lines and keeps no spans: nothing here runs long enough to need them.
struct Lines {
    level: Level,
    spans: AtomicU64,
}

impl Subscriber for Lines {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        // Other crates' innards (TLS, HTTP) would drown ours.
        *metadata.level() <= self.level && metadata.target().starts_with("bitnet")
    }

    fn new_span(&self, _: &Attributes<'_>) -> Id {
        Id::from_u64(self.spans.fetch_add(1, Ordering::Relaxed) + 1)
    }

    fn record(&self, _: &Id, _: &Record<'_>) {}

    fn record_follows_from(&self, _: &Id, _: &Id) {}

    fn event(&self, event: &Event<'_>) {
        let mut line = Line::default();
        event.record(&mut line);
        let place = event.metadata().target();
        terminal::note(format_args!("{place}: {}{}", line.message, line.fields));
    }

    fn enter(&self, _: &Id) {}

    fn exit(&self, _: &Id) {}
}

#[derive(Default)]
struct Line {
    message: String,
    fields: String,
}

impl Visit for Line {
    fn record_str(&mut self, field: &Field, value: &str) {
        // Without the quotes that Debug puts around text. Writing to a string cannot fail.
        let _ = write!(self.fields, " {field}={value}");
    }

    fn record_debug(&mut self, field: &Field, value: &dyn std::fmt::Debug) {
        let _ = match field.name() {
            "message" => write!(self.message, "{value:?}"),
            name => write!(self.fields, " {name}={value:?}"),
        };
    }
}
