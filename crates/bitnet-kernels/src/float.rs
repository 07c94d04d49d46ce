//! Float helpers with one fixed order of operations, generic over the instruction set.
//!
//! Sums run in 16 lanes: lane `j` adds elements `j`, `j + 16`, ... in order (a short tail goes into the first lanes),
//! then lanes are added pairwise: `j` and `j + 8`, then 4, 2, 1 ([`lanes::tree`]). Multiplications and additions are
//! separate operations, never fused. NaN in gives NaN out (its payload is not specified), never a panic.

pub(crate) mod attention;
pub(crate) mod dense;
pub(crate) mod elementwise;
pub(crate) mod exp;
pub(crate) mod hadamard;
pub(crate) mod half;
pub(crate) mod lanes;
pub(crate) mod norm;
pub(crate) mod quantize;
pub(crate) mod recurrent;
pub(crate) mod soften;
pub(crate) mod softmax;
