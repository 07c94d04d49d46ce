//! Activations in main memory.

use bitnet_core::Buffer;

/// f32 rows.
pub struct Rows {
    pub(crate) data: Buffer<f32>,
    pub(crate) width: usize,
}

impl Rows {
    pub(crate) fn of(&self, tokens: usize) -> &[f32] {
        &self.data[..tokens * self.width]
    }

    pub(crate) fn of_mut(&mut self, tokens: usize) -> &mut [f32] {
        &mut self.data[..tokens * self.width]
    }

    pub(crate) fn row(&self, token: usize) -> &[f32] {
        &self.data[token * self.width..(token + 1) * self.width]
    }
}
