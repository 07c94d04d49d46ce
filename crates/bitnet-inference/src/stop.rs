//! Stop strings in streamed text.

/// Releases text as soon as it cannot be the beginning of a stop string any more.
#[derive(Debug, Default)]
pub struct StopMatcher {
    stops: Vec<String>,
    /// Text not yet released, then (up to `released`) text released by the last call.
    pending: String,
    released: usize,
}

impl StopMatcher {
    /// A matcher of these strings; empty ones are ignored.
    pub fn new(stops: &[String]) -> Self {
        let stops: Vec<String> = stops.iter().filter(|s| !s.is_empty()).cloned().collect();
        // Room for what is held back and a few pieces, so that streaming does not allocate.
        let longest = stops.iter().map(String::len).max().unwrap_or(0);
        Self { stops, pending: String::with_capacity(longest + 256), released: 0 }
    }

    /// Adds a piece of text. Returns what may be shown, and whether a stop string was met: then the text before it
    /// is all there is.
    pub fn push(&mut self, piece: &str) -> (&str, bool) {
        self.pending.drain(..self.released);
        self.pending.push_str(piece);
        let met = self.stops.iter().filter_map(|stop| self.pending.find(stop.as_str())).min();
        self.released = met.unwrap_or_else(|| self.pending.len() - self.held());
        (&self.pending[..self.released], met.is_some())
    }

    /// What was held back, now that nothing follows.
    pub fn finish(&mut self) -> &str {
        self.pending.drain(..self.released);
        self.released = self.pending.len();
        &self.pending
    }

    /// Length of the longest end of the text that begins a stop string.
    fn held(&self) -> usize {
        let begins = |stop: &String| {
            let longest = (stop.len() - 1).min(self.pending.len());
            (1..=longest).rev().find(|&n| self.pending.as_bytes().ends_with(&stop.as_bytes()[..n]))
        };
        let held = self.stops.iter().filter_map(begins).max().unwrap_or(0);
        // Half of a character is never the end of text, so the cut is at a character's boundary.
        debug_assert!(self.pending.is_char_boundary(self.pending.len() - held));
        held
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(stops: &[&str], pieces: &[&str]) -> (String, bool) {
        let mut matcher = StopMatcher::new(&stops.iter().map(|s| s.to_string()).collect::<Vec<_>>());
        let mut shown = String::new();
        for piece in pieces {
            let (text, met) = matcher.push(piece);
            shown.push_str(text);
            if met {
                return (shown, true);
            }
        }
        shown.push_str(matcher.finish());
        (shown, false)
    }

    #[test]
    fn stops_are_found_across_pieces_and_hidden() {
        assert_eq!(run(&["\nUser:"], &["Hi", "\nUs", "er: x"]), ("Hi".into(), true));
        assert_eq!(run(&["\nUser:"], &["Hi", "\nUs", "e it"]), ("Hi\nUse it".into(), false));
        assert_eq!(run(&["ab", "b"], &["xa", "b"]), ("x".into(), true));
        // Of several the earliest in the text ends it, wherever it stands in the list.
        assert_eq!(run(&["later", "soon"], &["x soon, y later"]), ("x ".into(), true));
        assert_eq!(run(&["soon", "later"], &["x soon, y later"]), ("x ".into(), true));
        assert_eq!(run(&["aab"], &["aa", "ab"]), ("a".into(), true));
        assert_eq!(run(&["", "z"], &["abc"]), ("abc".into(), false));
        assert_eq!(run(&["éa"], &["é", "é", "a"]), ("é".into(), true));
    }

    #[test]
    fn text_that_cannot_become_a_stop_is_released_at_once() {
        let mut matcher = StopMatcher::new(&["END".into()]);
        assert_eq!(matcher.push("the E"), ("the ", false));
        assert_eq!(matcher.push("asy"), ("Easy", false));
    }
}
