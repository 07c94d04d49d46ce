//! Every tensor of a file is accounted for: read, known to change nothing, left out with a word, or a reason to refuse the file.

use std::collections::HashSet;

use bitnet_format::{Metadata, TensorType};
use bitnet_model::{Part, Projection};

use super::{Convention, Source, biases::group};
use crate::{
    error::SourceError,
    family::{QWEN2, bitnet_file, gguf},
};

/// Ends of names of what is no weight: tables that older code saved, and that follow from the configuration.
const HARMLESS: [&str; 6] = [
    "rotary_emb.inv_freq",
    "rotary_emb.cos_cached",
    "rotary_emb.sin_cached",
    "attn.masked_bias",
    "self_attn.rope.freqs",
    "attn_rot_embd.weight",
];

/// Beginnings of names, behind `model.`, of what stands beside a decoder.
const BESIDE: [&str; 9] =
    ["vision", "visual", "image", "audio", "speech", "mm_", "multi_modal", "connector", "mtp."];

/// What a tensor that no part reads is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    /// It would change nothing.
    Harmless,
    /// It belongs to something beside the decoder.
    Beside,
    /// The decoder's, and it would change what is computed.
    Of(Change),
}

/// How it would change what is computed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Change {
    Adapter,
    Expert,
    MoreLayers,
    Norm,
    Bias,
    Head,
    Scale,
    Unknown,
}

impl Source {
    /// Names of tensors that no part reads, in the order of the file. Those that would change nothing are not among them.
    pub fn unread(&self) -> Vec<String> {
        self.left_over()
            .filter(|(_, kind)| *kind != Kind::Harmless)
            .map(|(name, _)| name.to_owned())
            .collect()
    }

    /// Why the model would not compute what its file means, if it would not: a tensor that its class does not read.
    pub fn refused(&self) -> Option<SourceError> {
        let changes: Vec<(&str, Change)> = self
            .left_over()
            .filter_map(|(name, kind)| match kind {
                Kind::Of(change) => Some((name, change)),
                _ => None,
            })
            .collect();
        let &(name, change) = changes.first()?;
        let others = match changes.len() - 1 {
            0 => String::new(),
            n => format!(" (and {n} more)"),
        };
        Some(SourceError::Unread { name: name.to_owned(), others, reason: self.reason(change) })
    }

    /// What deserves a word before the model is run: one sentence about tensors that are left out, and what its file makes
    /// doubtful.
    pub fn warnings(&self) -> Vec<String> {
        let beside: Vec<&str> =
            self.left_over().filter(|(_, kind)| *kind == Kind::Beside).map(|(name, _)| name).collect();
        let left_out = beside.first().map(|first| match beside.len() {
            1 => format!("tensor '{first}' is no part of the decoder and is left out"),
            n => format!("{n} tensors that are no part of the decoder are left out (the first is '{first}')"),
        });
        left_out.into_iter().chain(self.doubts()).collect()
    }

    /// What its file makes doubtful.
    pub fn doubts(&self) -> Option<String> {
        match self.checkpoint.metadata() {
            Metadata::Gguf(m) => gguf::doubt(m, &self.config),
            _ => None,
        }
    }

    fn left_over(&self) -> impl Iterator<Item = (&str, Kind)> {
        let read = self.names_read();
        let tensors = self.checkpoint.tensors().map(|t| t.name()).chain(self.checkpoint.absent());
        tensors.filter(move |name| !read.contains(*name)).map(|name| (name, self.kind(name)))
    }

    /// The names of all tensors that some part reads.
    fn names_read(&self) -> HashSet<String> {
        let mut read = HashSet::new();
        for part in self.matrices().chain(self.vectors()) {
            let name = self.name(part);
            if let Ok(Some(entry)) = self.entry(&name) {
                read.extend(entry.tensors(&name));
            }
            if self.checkpoint.info(&name).is_some_and(|info| info.ty() == TensorType::U8) {
                read.insert(format!("{name}_scale"));
            }
            if let (Part::Weight(layer, projection), Convention::Gguf { .. }) = (part, &self.convention) {
                read.insert(gguf::scale_name(layer, projection));
            }
            if matches!(self.convention, Convention::Bitnet) {
                read.insert(bitnet_file::screen_name(&name));
            }
            read.insert(name);
        }
        if matches!(self.convention, Convention::Gguf { .. }) {
            read.insert("rope_freqs.weight".into());
        }
        read
    }

    fn kind(&self, name: &str) -> Kind {
        if HARMLESS.iter().any(|tail| name.ends_with(tail)) {
            return Kind::Harmless;
        }
        if name.contains("lora_") || name.contains(".base_layer.") {
            return Kind::Of(Change::Adapter);
        }
        if self.is_head(name) {
            return if self.repeats_embedding(name) { Kind::Harmless } else { Kind::Of(Change::Head) };
        }
        let Some(inner) = self.inner_name(name) else { return Kind::Beside };
        Kind::Of(match layer_of(inner) {
            Some(layer) if (self.config.layers..self.config.layers + self.drafting).contains(&layer) => {
                return Kind::Beside;
            }
            Some(layer) if layer >= self.config.layers => Change::MoreLayers,
            _ if inner.contains("expert") || inner.contains("_exps") || inner.contains("router") => {
                Change::Expert
            }
            _ if inner.ends_with(".bias") => Change::Bias,
            _ if inner.contains("norm") || inner.contains("_ln.") => Change::Norm,
            _ if inner.ends_with("scale") || inner.ends_with("scale_inv") => Change::Scale,
            _ => Change::Unknown,
        })
    }

    /// A name within the decoder, or `None` for one of something beside it.
    fn inner_name<'a>(&self, name: &'a str) -> Option<&'a str> {
        match self.convention {
            Convention::Gguf { .. } => {
                let own = [
                    "blk.",
                    "token_embd",
                    "output",
                    "rope_factors",
                    "position_embd",
                    "token_types",
                    "per_layer",
                ];
                own.iter().any(|start| name.starts_with(start)).then_some(name)
            }
            _ => {
                let inner = name.strip_prefix(&self.prefix)?;
                match inner.strip_prefix("model.") {
                    // A model that sees or hears has its tower beside the decoder's layers.
                    Some(rest) if BESIDE.iter().any(|part| rest.starts_with(part)) => None,
                    Some(rest) => Some(rest),
                    None => inner.starts_with("lm_head.").then_some(inner),
                }
            }
        }
    }

    fn is_head(&self, name: &str) -> bool {
        self.config.tied_head && name == self.name(Part::Head)
    }

    /// Whether the head that a tied model has all the same is the embedding once more. Both are read once, and only then.
    fn repeats_embedding(&self, head: &str) -> bool {
        let view = |name: &str| self.checkpoint.tensor(name).ok();
        match (view(head), view(&self.name(Part::Embedding))) {
            (Some(a), Some(b)) => a.info().ty() == b.info().ty() && a.bytes() == b.bytes(),
            _ => false,
        }
    }

    fn reason(&self, change: Change) -> String {
        let layers = self.config.layers;
        match change {
            Change::Adapter => "it is an adapter (LoRA) that was not merged; merge it where it was trained \
                 (`merge_and_unload` of PEFT), or save it as a directory of its own and give that with --adapter"
                .into(),
            Change::Expert => "it belongs to a mixture of experts, which this engine does not run".into(),
            Change::MoreLayers => {
                let names = self.left_over().filter_map(|(name, _)| layer_of(self.inner_name(name)?));
                let there = names.max().map_or(layers, |last| last.saturating_add(1));
                let key = if self.config_json().is_some() { "num_hidden_layers" } else { "block_count" };
                format!("{key} is {layers}, and the file has layers up to {there}; set it to what the model was trained with")
            }
            Change::Norm => format!(
                "models of class {} have no such norm; config.json must name the class that the model was trained as",
                self.config.family
            ),
            Change::Bias => format!(
                "models of class {} have no such bias, or config.json does not say that they have one (attention_bias, mlp_bias)",
                self.config.family
            ),
            Change::Head => "the configuration says that the head is the embedding (tie_word_embeddings), and this head is \
                 another; say false where it was trained so, or remove it"
                .into(),
            Change::Scale => "it scales a weight that is not packed; take the model's original".into(),
            Change::Unknown => format!("models of class {} do not compute with it", self.config.family),
        }
    }

    /// Refuses a model of which a part lies in a file that is not there. Without this, a head that is to be fetched would count as
    /// none, and a bias, too.
    pub(super) fn check_parts_are_here(&self) -> Result<(), SourceError> {
        if self.checkpoint.absent().len() == 0 {
            return Ok(());
        }
        let parts = self.matrices().chain([Part::Head]).chain(self.possible_vectors());
        let names = parts.filter(|&part| !self.has(part)).flat_map(|part| self.names(part));
        self.refuse_absent(names)
    }

    /// The same for what stands beside parts that are there: scales of packed weights.
    pub(super) fn check_scales_are_here(&self) -> Result<(), SourceError> {
        self.refuse_absent(self.names_read().into_iter())
    }

    fn refuse_absent(&self, mut names: impl Iterator<Item = String>) -> Result<(), SourceError> {
        match names.find_map(|name| self.checkpoint.absent_error(&name)) {
            Some(error) => Err(error.into()),
            None => Ok(()),
        }
    }

    /// Refuses a file without a bias that the class has.
    pub(super) fn check_biases(&self) -> Result<(), SourceError> {
        let needed = match self.convention {
            Convention::Gguf { .. } => [self.config.family == QWEN2, false, false],
            _ => self.biases,
        };
        let mut biases = self.projections().into_iter().map(|(l, p)| (p, Part::Bias(l, p)));
        match biases.find(|&(p, part)| needed[group(p)] && !self.has(part)) {
            Some((_, part)) => Err(self.missing(part)),
            None => Ok(()),
        }
    }

    /// The error for a part that is not there: of a file with fewer layers than its configuration says, that.
    pub(super) fn missing(&self, part: Part) -> SourceError {
        let name = self.name(part);
        let of = |layer: usize| Part::Norm(layer, bitnet_model::Norm::Attention);
        let Some(layer) = part.layer() else { return SourceError::missing(name) };
        let first = Projection::of(&self.config, layer)[0];
        if layer > 0 && !self.has(of(layer)) && !self.has(Part::Weight(layer, first)) {
            return SourceError::config(
                "number of layers",
                format!("{layer}, as many as the file has"),
                format!("{} (there is no tensor '{name}')", self.config.layers),
            );
        }
        SourceError::missing(name)
    }
}

/// The layer that a name within the decoder speaks of.
fn layer_of(inner: &str) -> Option<usize> {
    let rest = inner.strip_prefix("layers.").or_else(|| inner.strip_prefix("blk."))?;
    rest.split('.').next()?.parse().ok()
}
