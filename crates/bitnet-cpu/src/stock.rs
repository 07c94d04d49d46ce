//! Scratch memory that threads borrow and give back.

use std::sync::{Mutex, PoisonError};

use bitnet_core::{Buffer, HybridMemoryPool, Purpose};
use bytemuck::Pod;

/// Memory in which lines become strips, or products wait for their sum: one piece for each thread that has ever needed one.
pub(crate) struct Stock<T: Pod>(Mutex<Vec<Buffer<T>>>);

impl<T: Pod> Default for Stock<T> {
    fn default() -> Self {
        Self(Mutex::default())
    }
}

impl<T: Pod> Stock<T> {
    /// Lends `len` elements, or `None` when the system has no memory.
    pub(crate) fn lend<R>(
        &self,
        pool: &HybridMemoryPool,
        len: usize,
        work: impl FnOnce(&mut [T]) -> R,
    ) -> Option<R> {
        let lock = || self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let kept = lock().pop().filter(|buffer| buffer.len() >= len);
        let mut buffer = match kept {
            Some(buffer) => buffer,
            None => pool.allocate(Purpose::State, len).ok()?,
        };
        let result = work(&mut buffer[..len]);
        lock().push(buffer);
        Some(result)
    }
}
