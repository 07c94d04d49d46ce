//! What a run learns from: a text cut into windows, or examples of which only the answers are learned.

use std::sync::Arc;

use crate::{Corpus, Minibatch, TrainError, examples::Examples, random::Random};

/// The ids that a run learns from.
#[derive(Clone, Debug)]
pub enum Lessons {
    /// A text, in windows of a fixed length.
    Text(Arc<Corpus>),
    /// Examples, each in a row of its own, filled up.
    Examples(Arc<Examples>),
}

impl From<Arc<Corpus>> for Lessons {
    fn from(corpus: Arc<Corpus>) -> Self {
        Self::Text(corpus)
    }
}

impl From<Arc<Examples>> for Lessons {
    fn from(examples: Arc<Examples>) -> Self {
        Self::Examples(examples)
    }
}

impl Lessons {
    /// Refuses what rows of `positions` tokens and a model of `vocab` entries cannot learn.
    ///
    /// # Errors
    /// [`TrainError::ShortText`], [`TrainError::LongExample`], [`TrainError::Vocabulary`].
    pub(crate) fn check(&self, positions: usize, vocab: usize) -> Result<(), TrainError> {
        if let Self::Text(corpus) = self {
            for (part, ids) in [("training", &corpus.train), ("validation", &corpus.validation)] {
                if ids.len() <= positions {
                    return Err(TrainError::ShortText { part, tokens: ids.len(), need: positions + 1 });
                }
            }
        }
        if let Self::Examples(examples) = self {
            examples.check(positions)?;
        }
        let largest = self.all_ids().max().map_or(0, |id| id as usize);
        match largest < vocab {
            true => Ok(()),
            false => Err(TrainError::Vocabulary { tokenizer: largest + 1, model: vocab }),
        }
    }

    fn all_ids(&self) -> Box<dyn Iterator<Item = u32> + '_> {
        match self {
            Self::Text(c) => Box::new(c.train.iter().chain(&c.validation).copied()),
            Self::Examples(e) => Box::new(e.train.iter().chain(&e.validation).flat_map(|e| &e.ids).copied()),
        }
    }

    /// Tokens to learn from: all of a text's, those of the answers of examples.
    pub fn tokens(&self) -> usize {
        match self {
            Self::Text(c) => c.train.len(),
            Self::Examples(e) => e.train.iter().map(|e| e.learned()).sum(),
        }
    }

    /// A number that other lessons would hardly have.
    pub(crate) fn digest(&self) -> u64 {
        let mix = |sum: u64, word: u64| (sum.rotate_left(29) ^ word).wrapping_mul(0x9fb2_1c65_1e98_df25);
        let ids = self.all_ids().fold(self.tokens() as u64, |sum, id| mix(sum, u64::from(id)));
        match self {
            Self::Text(_) => ids,
            Self::Examples(e) => {
                let all = e.train.iter().chain(&e.validation);
                all.flat_map(|e| &e.answers).fold(ids, |s, r| mix(mix(s, r.start as u64), r.end as u64))
            }
        }
    }

    /// The places of one epoch in their order: first tokens of windows, or numbers of examples.
    pub(crate) fn order(&self, seed: u64, epoch: u64, positions: usize) -> Vec<usize> {
        let mut random = Random::new(seed ^ epoch.wrapping_mul(0xa076_1d64_78bd_642f));
        let mut order: Vec<usize> = match self {
            Self::Text(corpus) => {
                // At least one window fits: the corpus was checked.
                let slack = corpus.train.len() - positions;
                let first = random.below(slack.min(positions));
                (first..slack).step_by(positions).collect()
            }
            Self::Examples(examples) => (0..examples.train.len()).collect(),
        };
        for i in (1..order.len()).rev() {
            order.swap(i, random.below(i + 1));
        }
        order
    }

    /// The minibatch whose rows begin at these places.
    pub(crate) fn batch(&self, places: &[usize], positions: usize) -> Minibatch {
        match self {
            Self::Text(corpus) => {
                let windows = places.iter().flat_map(|&start| &corpus.train[start..=start + positions]);
                Minibatch::shifted(&windows.copied().collect::<Vec<_>>(), positions)
            }
            Self::Examples(examples) => Examples::batch(places.iter().map(|&at| &examples.train[at])),
        }
    }

    /// At most `count` rows of what is kept for validation, evenly over it, in batches.
    pub(crate) fn validation(&self, count: usize, batch: usize, positions: usize) -> Vec<Minibatch> {
        let all = match self {
            Self::Text(corpus) => (corpus.validation.len() - 1) / positions,
            Self::Examples(examples) => examples.validation.len(),
        };
        let count = count.clamp(1, all);
        let rows: Vec<usize> = (0..count).map(|i| i * all / count).collect();
        let batch_of = |rows: &[usize]| match self {
            Self::Text(corpus) => {
                let windows = rows.iter().flat_map(|row| &corpus.validation[row * positions..][..=positions]);
                Minibatch::shifted(&windows.copied().collect::<Vec<_>>(), positions)
            }
            Self::Examples(examples) => Examples::batch(rows.iter().map(|&at| &examples.validation[at])),
        };
        rows.chunks(batch).map(batch_of).collect()
    }

    /// The first few sequences of what is kept for validation.
    pub(crate) fn samples(&self, count: usize, positions: usize) -> Vec<&[u32]> {
        match self {
            Self::Text(corpus) => {
                let windows = corpus.validation.chunks_exact(positions + 1).take(count);
                windows.map(|window| &window[..positions]).collect()
            }
            Self::Examples(e) => e.validation.iter().take(count).map(|e| &e.ids[..e.ids.len() - 1]).collect(),
        }
    }
}
