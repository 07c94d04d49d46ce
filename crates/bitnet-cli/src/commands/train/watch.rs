//! What a run shows of itself: a view that stays in its place on a terminal, lines elsewhere, and a curve in its directory.

use std::{
    path::PathBuf,
    time::{Duration, Instant},
};

use bitnet_benchmarks::{
    Process,
    chart::{self, Curve},
};
use bitnet_training::{Event, History, StepReport, Trits};
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use super::curve::curve;
use crate::{
    failure::{Result, sentence},
    files::Draft,
    human, terminal,
};

/// The view is drawn at most so often.
const PAUSE: Duration = Duration::from_millis(100);
/// Width and height of the drawn curve, in characters.
const CELLS: [usize; 2] = [60, 5];

/// Hears of a run's events and tells them on the terminal.
pub struct RunWatch {
    directory: PathBuf,
    /// Steps between lines, and of the run.
    every: u64,
    steps: u64,
    seen: Seen,
    /// Seconds and tokens since the last line.
    since: f64,
    tokens: usize,
    view: Option<ProgressBar>,
    drawn: Option<Instant>,
}

/// What is known of a run at this moment.
#[derive(Default)]
struct Seen {
    history: History,
    last: Option<StepReport>,
    tokens_per_s: f64,
    /// The last validation's step, and the one before it.
    at: [u64; 2],
    trits: Trits,
    memory: Option<u64>,
}

impl RunWatch {
    /// Of a run with so many `steps`, with lines every `every` of them.
    pub fn new(directory: PathBuf, every: u64, steps: u64) -> Self {
        let view = terminal::live().then(|| {
            let bar = ProgressBar::with_draw_target(None, ProgressDrawTarget::stderr());
            // A constant of ours; without it the library's own style shows at least how far the run is.
            if let Ok(style) = ProgressStyle::with_template("{msg}") {
                bar.set_style(style);
            }
            bar
        });
        let seen = Seen::default();
        Self { directory, every, steps, seen, since: 0.0, tokens: 0, view, drawn: None }
    }

    /// Takes in an event and tells what a person should know of it.
    pub fn tell(&mut self, event: &Event<'_>) {
        match event {
            Event::Skipped(skipped) => {
                self.aside(|| terminal::warning(format_args!("{}", sentence(&skipped.reason))));
            }
            Event::Resumed(step) => {
                // Curves begin where the run did; one that cannot be read is no reason to stop.
                self.seen.history = History::read(&self.directory, *step).unwrap_or_default();
                self.seen.at = [*step; 2];
                self.aside(|| terminal::note(format_args!("going on behind step {step}")));
            }
            Event::Step(report, seconds) => self.step(report, *seconds),
            Event::Evaluated(step, loss, trits) => self.evaluated(*step, *loss, *trits),
            Event::Saved(_) => {}
            Event::Best { step, loss, early } => self.aside(|| {
                let end = if *early == 0 {
                    String::new()
                } else {
                    format!("no lower validation for long, {early} steps are left out; ")
                };
                terminal::note(format_args!(
                    "{end}the masters are those behind step {step}, validation {loss:.4}"
                ));
            }),
        }
    }

    fn step(&mut self, report: &StepReport, seconds: f64) {
        self.since += seconds;
        self.tokens += report.tokens;
        self.seen.history.losses.push((report.step, report.loss));
        self.seen.last = Some(*report);
        if report.step.is_multiple_of(self.every) || report.step == self.steps {
            self.seen.tokens_per_s = self.tokens as f64 / self.since;
            self.seen.memory = Process::now().anonymous;
            (self.since, self.tokens) = (0.0, 0);
            if self.view.is_none() {
                terminal::note(format_args!("{}", self.seen.line(self.steps)));
            }
        } else if self.seen.tokens_per_s == 0.0 {
            self.seen.tokens_per_s = self.tokens as f64 / self.since;
        }
        self.draw();
    }

    fn evaluated(&mut self, step: u64, loss: f64, trits: Trits) {
        self.seen.history.validations.push((step, loss));
        self.seen.at = [step, self.seen.at[0]];
        self.seen.trits = trits;
        match self.view {
            Some(_) => self.draw(),
            None => terminal::note(format_args!(
                "step {step}: validation {loss:.4}, zeros {:.1} %, {} trits flipped",
                100.0 * trits.zeros,
                human::count(trits.flips)
            )),
        }
        if let Err(failure) = self.picture() {
            self.aside(|| {
                let _ = terminal::report(failure);
            });
        }
    }

    fn draw(&mut self) {
        let Some(view) = &self.view else { return };
        if self.drawn.is_none_or(|drawn| drawn.elapsed() >= PAUSE) {
            view.set_message(self.seen.frame(self.steps));
            view.tick();
            self.drawn = Some(Instant::now());
        }
    }

    /// Says something while the view is away.
    fn aside(&self, say: impl FnOnce()) {
        match &self.view {
            Some(view) => view.suspend(say),
            None => say(),
        }
    }

    /// Writes the curve of the losses.
    fn picture(&self) -> Result<()> {
        let of = |name: &str, points: &[(u64, f64)]| Curve {
            name: name.to_owned(),
            points: points.iter().map(|&(step, loss)| (step as f64, loss)).collect(),
        };
        let history = &self.seen.history;
        let curves = [of("training", &history.losses), of("validation", &history.validations)];
        let name = self.directory.file_name().map_or_else(String::new, |n| n.to_string_lossy().into_owned());
        let text = chart::svg(&format!("Loss of {name}"), "steps", "nats per token", &curves);
        let mut draft = Draft::new(&self.directory.join("loss.svg"))?;
        draft.write(text.as_bytes())?;
        draft.publish()
    }

    /// Ends the view, with what it showed last as lines, and draws the curve of the whole run.
    pub fn finish(self) -> Result<()> {
        if let Some(view) = &self.view {
            view.finish_and_clear();
            if self.seen.last.is_some() {
                terminal::note(format_args!("{}", self.seen.frame(self.steps)));
            }
        }
        if self.seen.history.losses.is_empty() { Ok(()) } else { self.picture() }
    }
}

impl Seen {
    fn left(&self, steps: u64) -> String {
        let Some(report) = self.last.filter(|_| self.tokens_per_s > 0.0) else { return String::new() };
        match (steps - report.step) as f64 * report.tokens as f64 / self.tokens_per_s {
            0.0 => String::new(),
            left => format!("  {} left", human::seconds(left)),
        }
    }

    fn memory(&self) -> String {
        self.memory.map_or_else(String::new, |bytes| format!("  {}", human::bytes(bytes)))
    }

    /// The state of the run in one line.
    fn line(&self, steps: u64) -> String {
        let Some(report) = &self.last else { return String::new() };
        format!(
            "step {}/{steps}  {}  rate {:.2e}  gradient {:.2}  {:.0} tokens/s{}{}",
            report.step,
            losses(report),
            report.rates.learning_rate,
            report.length,
            self.tokens_per_s,
            self.memory(),
            self.left(steps)
        )
    }

    /// The state of the run in a few lines, with a curve of its loss.
    fn frame(&self, steps: u64) -> String {
        const BAR: u64 = 30;
        let Some(report) = &self.last else { return String::new() };
        let done = (report.step * BAR / steps.max(1)) as usize;
        let mut lines = vec![format!(
            "step {}/{steps}  [{}{}]  {} %{}",
            report.step,
            "=".repeat(done),
            " ".repeat(BAR as usize - done),
            report.step * 100 / steps.max(1),
            self.left(steps)
        )];
        let mut losses = losses(report);
        let lowest = self.history.validations.iter().min_by(|a, b| a.1.total_cmp(&b.1));
        if let (Some((step, loss)), Some((low_step, low))) = (self.history.validations.last(), lowest) {
            losses +=
                &format!("  validation {loss:.4} behind step {step}, lowest {low:.4} behind {low_step}");
        }
        lines.push(losses);
        lines.push(format!(
            "rate {:.2e}  gradient {:.2}  {:.0} tokens/s{}",
            report.rates.learning_rate,
            report.length,
            self.tokens_per_s,
            self.memory()
        ));
        if self.trits.count > 0 {
            let between = self.at[0].saturating_sub(self.at[1]).max(1) as f64;
            lines.push(format!(
                "zeros {:.1} %  {} trits flipped in {between:.0} steps, {:.1} a step of {}",
                100.0 * self.trits.zeros,
                human::count(self.trits.flips),
                self.trits.flips as f64 / between,
                human::count(self.trits.count)
            ));
        }
        let values: Vec<f64> = self.history.losses.iter().map(|(_, loss)| *loss).collect();
        lines.extend(curve(&values, CELLS[0], CELLS[1]));
        lines.join("\n")
    }
}

/// The loss, and the distance of the relations in it.
fn losses(report: &StepReport) -> String {
    let relations = report.relations.map(|r| format!("  relations {r:.4}")).unwrap_or_default();
    format!("loss {:.4}{relations}", report.loss)
}

#[cfg(test)]
mod tests {
    use bitnet_training::Rates;

    use super::*;

    #[test]
    fn a_frame_says_where_the_run_is() {
        let mut seen =
            Seen { tokens_per_s: 1000.0, memory: Some(5 << 20), at: [200, 100], ..Seen::default() };
        assert_eq!(seen.frame(400), "");
        seen.history.losses = (1..=240).map(|step| (step, 6.0 / step as f64)).collect();
        seen.history.validations = vec![(100, 2.5), (200, 2.75)];
        seen.trits = Trits { zeros: 0.3125, flips: 1500, count: 90_000 };
        let rates = Rates { learning_rate: 1e-3, weight_decay: 0.1 };
        seen.last =
            Some(StepReport { step: 240, loss: 2.0, relations: None, length: 0.5, rates, tokens: 500 });
        let frame = seen.frame(400);
        let lines: Vec<&str> = frame.lines().collect();
        assert_eq!(lines[0], "step 240/400  [==================            ]  60 %  1 min 20 s left");
        assert_eq!(lines[1], "loss 2.0000  validation 2.7500 behind step 200, lowest 2.5000 behind 100");
        assert_eq!(lines[2], "rate 1.00e-3  gradient 0.50  1000 tokens/s  5.2 MB");
        assert_eq!(lines[3], "zeros 31.2 %  1,500 trits flipped in 100 steps, 15.0 a step of 90,000");
        assert_eq!(lines.len(), 4 + CELLS[1]);
        let line =
            "step 240/400  loss 2.0000  rate 1.00e-3  gradient 0.50  1000 tokens/s  5.2 MB  1 min 20 s left";
        assert_eq!(seen.line(400), line);
        seen.last = seen.last.map(|last| StepReport { relations: Some(0.125), ..last });
        assert_eq!(seen.line(400), line.replace("2.0000", "2.0000  relations 0.1250"));
    }
}
