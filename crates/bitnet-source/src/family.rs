//! Model families: a table of names and a few switches each.
//!
//! | family | told by | gate | sub-norms | q/k norms | trained with int8 |
//! |---|---|---|---|---|---|
//! | `bitnet-b1.58` | `BitNetForCausalLM`; GGUF `bitnet-b1.58`, `bitnet-25` | `hidden_act`; ReLU^2 in GGUF | yes | no | yes |
//! | `bitnet` | `BitnetForCausalLM` (1bitLLM); GGUF `bitnet` | SiLU | yes | no | yes |
//! | `llama` | `LlamaForCausalLM`, `MistralForCausalLM`; GGUF `llama` | SiLU | no | no | when quantized as BitNet |
//! | `qwen2` | `Qwen2ForCausalLM`; GGUF `qwen2` | SiLU | no | no; biases of q, k, v | when quantized as BitNet |
//! | `qwen3` | `Qwen3ForCausalLM`; GGUF `qwen3` | SiLU | no | yes | when quantized as BitNet |
//! | `qwen35` | `Qwen3_5ForCausalLM`, the text part of `Qwen3_5ForConditionalGeneration`; GGUF `qwen35` | SiLU | no | yes | no |
//!
//! Blocks of `qwen35` have gated attention, or Gated DeltaNet in its place.

mod arithmetic;
pub mod bitnet_file;
pub mod gguf;
pub mod hadamard;
pub mod huggingface;

/// The names that [`bitnet_model::Config::family`] takes.
pub const BITNET_B158: &str = "bitnet-b1.58";
/// 1bitLLM's reproductions.
pub const BITNET: &str = "bitnet";
/// Llama-class blocks with ternary projections: Falcon3, Llama3-8B-1.58, Falcon-E, TriLM.
pub const LLAMA: &str = "llama";
/// Llama-class blocks whose queries, keys and values have biases: Qwen2 and Qwen2.5.
pub const QWEN2: &str = "qwen2";
/// Qwen3-class blocks with group-scaled projections: Ternary-Bonsai.
pub const QWEN3: &str = "qwen3";
/// Hybrids of gated attention and Gated DeltaNet: Qwen3.5 and its successors, Ternary-Bonsai-27B.
pub const QWEN35: &str = "qwen35";
