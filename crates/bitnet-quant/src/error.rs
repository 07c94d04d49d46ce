//! What can be wrong with trits and scales.

/// Trits, scales and shapes that do not belong together.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum QuantError {
    /// A 2-bit code is 3, which is no trit.
    #[error("the code at row {row}, column {col} is 3 (a weight of +2): not a ternary matrix")]
    NotATrit {
        /// Row of the weight whose code it is.
        row: usize,
        /// Column of the weight whose code it is.
        col: usize,
    },
    /// A buffer has the wrong number of elements for its shape.
    #[error("{what} of a [{rows}, {cols}] ternary matrix: expected {expected} elements, got {got}")]
    Size {
        /// The buffer whose size is wrong, in a word.
        what: &'static str,
        /// Rows of the matrix that the buffer is for.
        rows: usize,
        /// Columns of the matrix that the buffer is for.
        cols: usize,
        /// Elements that the shape asks for.
        expected: usize,
        /// The number of elements found.
        got: usize,
    },
    /// A shape that no kernel can run.
    #[error(
        "a ternary matrix of shape [{rows}, {cols}] is outside what kernels can sum in 32 bits or address"
    )]
    Shape {
        /// Rows of the matrix that was asked for.
        rows: usize,
        /// Columns of the matrix that was asked for.
        cols: usize,
    },
    /// A float that cannot be quantized.
    #[error("the weight at row {row}, column {col} is {value}")]
    NotFinite {
        /// Row of the weight, counted from 0.
        row: usize,
        /// Column of the weight, counted from 0.
        col: usize,
        /// The weight: an infinity or NaN.
        value: f32,
    },
    /// A scale that is no finite number.
    #[error("scale {index} is {value}")]
    Scale {
        /// Index among the scales, which are row-major.
        index: usize,
        /// The scale: an infinity or NaN.
        value: f32,
    },
    /// A screening copy of a head that cannot be.
    #[error("the screening copy of a [{rows}, {cols}] head: {what}")]
    Screen {
        /// Rows of the head, one per token of the vocabulary.
        rows: usize,
        /// Columns of the head, the width of the hidden vector.
        cols: usize,
        /// Why it cannot be screened.
        what: String,
    },
    /// The system would not give the memory.
    #[error("no memory for the packed weights: {0}")]
    Memory(String),
}
