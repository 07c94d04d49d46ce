//! What a reader is told that files do not say.

/// What a file does not say of itself.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct OpenOptions {
    /// Read I2_S tensors as 64 weights in 16 bytes, as bitnet.cpp built for ARM writes them. Nothing in a file
    /// tells them from the published layout of 128 weights in 32 bytes.
    pub i2s_64: bool,
}

impl OpenOptions {
    /// The same options with [`OpenOptions::i2s_64`] as given.
    pub fn i2s_64(mut self, yes: bool) -> Self {
        self.i2s_64 = yes;
        self
    }
}
