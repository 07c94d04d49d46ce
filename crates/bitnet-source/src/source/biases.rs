//! The switches that a configuration has for biases.

use bitnet_model::Projection;

/// Which of the three switches of biases a projection belongs to.
pub(super) fn group(projection: Projection) -> usize {
    match projection {
        Projection::Query | Projection::Key | Projection::Value | Projection::AttentionGate => 0,
        Projection::Output => 1,
        Projection::Gate | Projection::Up | Projection::Down => 2,
        // No class has biases here; where a GGUF file has one, it is added like any other.
        Projection::DeltaInput
        | Projection::DeltaGate
        | Projection::DeltaBeta
        | Projection::DeltaDecay
        | Projection::DeltaOutput => 2,
    }
}
