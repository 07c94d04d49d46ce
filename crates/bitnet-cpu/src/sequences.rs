//! What sequences hold, in main memory.

use bitnet_core::{HybridMemoryPool, Purpose};
use bitnet_device::{DeviceError, PAGE, SequenceShape};

use crate::{KvPages, KvType, RecurrentStates};

/// Keys, values and recurrent states of all sequences.
pub struct SequenceMemory {
    pub(crate) kv: KvPages,
    pub(crate) recurrent: Option<RecurrentStates>,
}

impl SequenceMemory {
    /// Nothing yet, but room for one sequence of `context` positions.
    pub(crate) fn new(
        pool: &HybridMemoryPool,
        shape: SequenceShape,
        kind: KvType,
        context: usize,
    ) -> Result<Self, DeviceError> {
        let kv = KvPages::new(shape.kv, kind)?;
        let recurrent = shape.recurrent.map(RecurrentStates::new);
        // A step reads one state and writes another.
        let states = recurrent.as_ref().map_or(0, |states| states.state_bytes().saturating_mul(2));
        let whole = context.div_ceil(PAGE).saturating_mul(kv.page_bytes()).saturating_add(states);
        pool.could_hold(Purpose::KvCache, whole)?;
        Ok(Self { kv, recurrent })
    }
}
