//! The windows of a text that batches are made of, in a fixed order.

use crate::lessons::Lessons;

/// Where the next batch comes from: the training ids are cut into windows, each epoch at another place and in another order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Position {
    /// Times that all windows were seen.
    pub epoch: u64,
    /// Windows of this epoch that were seen.
    pub window: u64,
}

/// Draws windows, or examples, in a seeded order. All of its state is a [`Position`].
#[derive(Clone, Debug)]
pub(crate) struct Windows {
    seed: u64,
    lessons: Lessons,
    positions: usize,
    at: Position,
    /// The places of this epoch, in their order.
    order: Vec<usize>,
}

impl Windows {
    pub(crate) fn new(seed: u64, lessons: Lessons, positions: usize, at: Position) -> Self {
        let order = lessons.order(seed, at.epoch, positions);
        Self { seed, lessons, positions, at, order }
    }

    pub(crate) fn position(&self) -> &Position {
        &self.at
    }

    /// The next place: where a window of `positions + 1` tokens begins, or the number of an example.
    pub(crate) fn next(&mut self) -> usize {
        if self.at.window >= self.order.len() as u64 {
            self.at = Position { epoch: self.at.epoch + 1, window: 0 };
            self.order = self.lessons.order(self.seed, self.at.epoch, self.positions);
        }
        let place = self.order[self.at.window as usize];
        self.at.window += 1;
        place
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Corpus;

    #[test]
    fn an_epoch_meets_every_window_once_and_resumes_anywhere() {
        let corpus = Corpus { train: vec![0; 1000], validation: Vec::new() };
        let text = Lessons::from(std::sync::Arc::new(corpus));
        let mut windows = Windows::new(5, text.clone(), 9, begin_again());
        let count = windows.order.len();
        assert!((110..=112).contains(&count));
        let mut seen: Vec<usize> = (0..count).map(|_| windows.next()).collect();
        assert!(seen.iter().all(|start| start + 10 <= 1000));
        assert!(!seen.is_sorted());
        seen.sort_unstable();
        assert!(seen.windows(2).all(|w| w[1] - w[0] == 9));
        // The second epoch, from the middle of the first, and from a position of its own.
        let mut again = Windows::new(5, text.clone(), 9, windows.position().clone());
        let next: Vec<usize> = (0..150).map(|_| windows.next()).collect();
        assert_eq!(next, (0..150).map(|_| again.next()).collect::<Vec<_>>());
        assert_ne!(
            Windows::new(6, text.clone(), 9, begin_again()).order,
            Windows::new(5, text, 9, begin_again()).order
        );
    }

    fn begin_again() -> Position {
        Position { epoch: 0, window: 0 }
    }
}
