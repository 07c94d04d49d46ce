//! Words of the command line as the engine's, and the engine's errors as ours.

use bitnet_inference::{ActivationChoice, EngineError, KvType, Layout};

use crate::{
    args::{ActivationsArg, Kv, LayoutArg},
    failure::{Failure, sentence},
};

/// What the word on the command line means.
pub fn kv_type(kv: Kv) -> KvType {
    match kv {
        Kv::F32 => KvType::F32,
        Kv::F16 => KvType::F16,
        Kv::Int8 => KvType::Int8,
    }
}

/// What the word on the command line means.
pub fn layout(layout: LayoutArg) -> Layout {
    match layout {
        LayoutArg::Auto => Layout::Auto,
        LayoutArg::TwoBit => Layout::TwoBit,
        LayoutArg::Base3 => Layout::Base3,
    }
}

/// What the word on the command line means.
pub fn choice(activations: ActivationsArg) -> ActivationChoice {
    match activations {
        ActivationsArg::Auto => ActivationChoice::Auto,
        ActivationsArg::Float => ActivationChoice::Float,
        ActivationsArg::Int8 => ActivationChoice::Int8,
    }
}

/// The engine's error in words, with the cure where it is a matter of the command line.
pub fn failure(error: EngineError) -> Failure {
    let told = Failure::new(sentence(&error));
    match error {
        EngineError::Kernel(_) => told.cure(
            "`bitnet doctor` lists the kernels of this machine; or leave --kernel and BITNET_KERNEL out",
        ),
        EngineError::NoTokenizer => told.cure("--ids-file ids.json --print ids"),
        _ => told,
    }
}
