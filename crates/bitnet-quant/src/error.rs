//! What can be wrong with trits and scales.

/// Trits, scales and shapes that do not belong together.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum QuantError {
    /// A 2-bit code is 3, which is no trit.
    #[error("the code at row {row}, column {col} is 3 (a weight of +2): not a ternary matrix")]
    NotATrit {
        /// Row of the code.
        row: usize,
        /// Column of the code.
        col: usize,
    },
    /// A buffer has the wrong number of elements for its shape.
    #[error("{what} of a [{rows}, {cols}] ternary matrix: expected {expected} elements, got {got}")]
    Size {
        /// Which buffer.
        what: &'static str,
        /// Rows of the matrix.
        rows: usize,
        /// Columns of the matrix.
        cols: usize,
        /// Elements that the shape asks for.
        expected: usize,
        /// Elements there are.
        got: usize,
    },
    /// A shape that no kernel can run.
    #[error(
        "a ternary matrix of shape [{rows}, {cols}] is outside what kernels can sum in 32 bits or address"
    )]
    Shape {
        /// Rows of the matrix.
        rows: usize,
        /// Columns of the matrix.
        cols: usize,
    },
    /// A float that cannot be quantized.
    #[error("the weight at row {row}, column {col} is {value}")]
    NotFinite {
        /// Row of the weight.
        row: usize,
        /// Column of the weight.
        col: usize,
        /// What stands there.
        value: f32,
    },
    /// A scale that is no finite number.
    #[error("scale {index} is {value}")]
    Scale {
        /// Index of the scale.
        index: usize,
        /// Its value.
        value: f32,
    },
    /// A screening copy of a head that cannot be.
    #[error("the screening copy of a [{rows}, {cols}] head: {what}")]
    Screen {
        /// Rows of the head.
        rows: usize,
        /// Columns of the head.
        cols: usize,
        /// What is wrong.
        what: String,
    },
    /// The system would not give the memory.
    #[error("no memory for the packed weights: {0}")]
    Memory(String),
}
