//! A model with some matrices replaced.

use std::collections::BTreeMap;

use bitnet_model::{Config, ModelError, Part, PartSource, Weight};

/// `source`, with `changed` in place of its own matrices.
pub(crate) struct Overlay<'a> {
    pub(crate) source: &'a dyn PartSource,
    pub(crate) changed: BTreeMap<Part, Weight>,
}

impl PartSource for Overlay<'_> {
    fn config(&self) -> &Config {
        self.source.config()
    }

    fn name(&self, part: Part) -> String {
        self.source.name(part)
    }

    fn byte_len(&self, part: Part) -> u64 {
        self.source.byte_len(part)
    }

    fn weight(&self, part: Part) -> Result<Weight, ModelError> {
        self.changed.get(&part).map_or_else(|| self.source.weight(part), |weight| Ok(weight.clone()))
    }

    fn vector(&self, part: Part) -> Result<Option<Vec<f32>>, ModelError> {
        self.source.vector(part)
    }
}
