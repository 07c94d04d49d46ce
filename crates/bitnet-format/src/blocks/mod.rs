//! Block layouts, decoded row by row, so that rows can be decoded on any thread and in any order.

mod decode;
pub(crate) mod dense;
pub(crate) mod gather;
mod parts;
mod super_blocks;
pub(crate) mod ternary;

#[cfg(test)]
mod tests;
