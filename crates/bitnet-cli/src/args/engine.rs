//! Flags of every command that runs a model.

use clap::{Args, ValueEnum, ValueHint};

use super::{number, words};

/// How the model is run. None of it changes a result except `activations` and `kv`.
#[derive(Clone, Debug, Args)]
#[command(next_help_heading = "Engine")]
pub struct EngineArgs {
    /// Threads to use [default: as many as were measured to be fastest, see --tune]
    #[arg(long, short_alias = 't', alias = "n-threads", value_name = "N", value_parser = number::up_to_1024)]
    pub threads: Option<u16>,
    /// The kernel to use; `bitnet doctor` says which ones run here [default: the variable BITNET_KERNEL, else the best]
    #[arg(long, value_name = "NAME", value_parser = words::kernels())]
    pub kernel: Option<String>,
    /// How activations are rounded: as the model was trained, not at all, or to int8 in any case
    #[arg(long, value_name = "HOW", value_enum, default_value_t = ActivationsArg::Auto)]
    pub activations: ActivationsArg,
    /// How keys and values of past tokens are kept: f16 takes half of the memory of f32, int8 a quarter [default: f16; f32 where
    /// logits or perplexity are wanted]
    #[arg(long, value_name = "TYPE", value_enum)]
    pub kv: Option<Kv>,
    /// Room for so many tokens, prompt and answer together [default: what the model was made for, at most 4096]
    #[arg(long, short_alias = 'c', aliases = ["ctx-size", "n-ctx"], value_name = "N", value_parser = number::from_1::<u32>)]
    pub context: Option<u32>,
    /// Whether models with squared ReLU leave out weights that would be multiplied with exact zeros: where it pays, always,
    /// never. Results are the same
    #[arg(long, value_name = "WHEN", value_enum, default_value_t = SparsityArg::Auto)]
    pub sparsity: SparsityArg,
    /// In how many bits weights are held: as was measured to be fastest, 2, or 1.6 (base 3). Results are the same
    #[arg(long, value_name = "WHICH", value_enum, default_value_t = LayoutArg::Auto)]
    pub layout: LayoutArg,
    /// When to measure how this machine runs a model fastest: once per large model, not at all, or again now. Results are the same
    #[arg(long, value_name = "WHEN", value_enum, default_value_t = Tune::Auto)]
    pub tune: Tune,
    /// A directory with side paths: small trained matrices beside the model's own (LoRA, as PEFT and `bitnet finetune` write them)
    #[arg(long, alias = "lora", value_name = "DIR", value_hint = ValueHint::DirPath)]
    pub adapter: Option<std::path::PathBuf>,
    /// Read I2_S tensors in the 64-element layout of ARM builds
    #[arg(long = "i2s-64")]
    pub i2s_64: bool,
}

impl EngineArgs {
    /// The flags that were given and matter only where the model is run.
    pub fn for_running(&self) -> Vec<&'static str> {
        let given = [
            ("--threads", self.threads.is_some()),
            ("--activations", self.activations != ActivationsArg::Auto),
            ("--sparsity", self.sparsity != SparsityArg::Auto),
            ("--layout", self.layout != LayoutArg::Auto),
            ("--tune", self.tune != Tune::Auto),
            ("--adapter", self.adapter.is_some()),
        ];
        given.into_iter().filter_map(|(flag, given)| given.then_some(flag)).collect()
    }
}

/// When to measure.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum Tune {
    /// The first time that a model too large for the caches is run
    #[default]
    Auto,
    /// Never: run with what is best for most machines
    Never,
    /// Now, and keep what was found
    Again,
}

/// How trits are packed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum LayoutArg {
    Auto,
    TwoBit,
    Base3,
}

/// When zeros are left out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum SparsityArg {
    Auto,
    On,
    Off,
}

/// Rounding of activations.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum ActivationsArg {
    Auto,
    Float,
    Int8,
}

/// Types of keys and values.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Kv {
    F32,
    F16,
    Int8,
}
