//! What a run with a teacher is told.

/// How a teacher's logits enter the loss.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct DistillOptions {
    /// What both models' logits are divided by before they are compared: larger ones tell more of the unlikely tokens.
    pub temperature: f32,
    /// The share of the teacher in the loss, from 0 (the text alone) to 1 (the teacher alone).
    pub weight: f32,
}

/// How a teacher's attention relations are learned: at one block, as MiniLMv2 (arXiv:2012.15828, section 3) and BitDistill
/// (arXiv:2510.13998) do it. See [`crate::ops::relations`].
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct RelationOptions {
    /// What they are multiplied with in the loss, above 0.
    pub weight: f32,
    /// Relation heads that queries, keys and values of both models are cut into. The papers take more of them than there are
    /// attention heads.
    pub heads: usize,
    /// The student's block, from 0; negative ones count from the end. The papers take the last.
    pub layer: i64,
    /// The teacher's block. The papers take the last, of large teachers one somewhat before it.
    pub teacher_layer: i64,
}
