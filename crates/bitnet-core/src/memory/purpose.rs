//! What memory is used for.

use std::fmt;

/// What memory is used for; statistics are kept per purpose.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Purpose {
    /// Model parameters: written once, then read for every token.
    Weights,
    /// Activations and scratch of a session.
    State,
    /// Keys and values of past positions.
    KvCache,
}

impl Purpose {
    /// All purposes, in the order in which statistics list them.
    pub const ALL: [Self; 3] = [Self::Weights, Self::State, Self::KvCache];
}

impl fmt::Display for Purpose {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Weights => "weights",
            Self::State => "state",
            Self::KvCache => "KV cache",
        })
    }
}
