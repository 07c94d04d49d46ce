//! Small models that the oracle has no example of, made from a seed.

use std::{collections::BTreeMap, fs, path::Path};

use bitnet_format::{SafetensorsWriter, TensorSpec, TensorType};
use half::f16;
use serde_json::{Value, json};

/// Token ids within every made vocabulary.
pub const IDS: [u32; 7] = [1, 5, 9, 30, 2, 2, 17];

/// What is special about a model.
#[derive(Clone)]
pub struct Made {
    pub class: &'static str,
    pub hidden: usize,
    pub ffn: usize,
    pub heads: usize,
    pub kv_heads: usize,
    pub head_dim: usize,
    pub tied: bool,
    pub biases: bool,
    pub input_norms: bool,
    pub sub_norms: bool,
    /// `None`: exact f16 floats without quantization, half of the rows with another scale.
    pub quantization: Option<Value>,
    pub more: Value,
    /// The largest magnitude of masters; scales are about half of it.
    pub spread: f32,
    /// A projection whose masters are all zero.
    pub zero: &'static str,
}

impl Default for Made {
    fn default() -> Self {
        Self {
            class: "LlamaForCausalLM",
            hidden: 256,
            ffn: 512,
            heads: 4,
            kv_heads: 2,
            head_dim: 64,
            tied: true,
            biases: false,
            input_norms: false,
            sub_norms: false,
            quantization: Some(json!({
                "quant_method": "bitnet", "linear_class": "autobitlinear", "quantization_mode": "online"
            })),
            more: json!({}),
            spread: 0.07,
            zero: "",
        }
    }
}

struct Random(u64);

impl Random {
    /// Uniform in -1..1.
    fn next(&mut self) -> f32 {
        self.0 = self.0.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        ((self.0 >> 40) as f32 / (1u64 << 23) as f32) - 1.0
    }
}

impl Made {
    fn config(&self) -> Value {
        let mut config = json!({
            "architectures": [self.class], "hidden_size": self.hidden, "intermediate_size": self.ffn,
            "num_hidden_layers": 2, "num_attention_heads": self.heads, "num_key_value_heads": self.kv_heads,
            "head_dim": self.head_dim, "vocab_size": 32, "max_position_embeddings": 64, "rms_norm_eps": 1e-5,
            "rope_theta": 10000.0, "tie_word_embeddings": self.tied, "bos_token_id": 1, "eos_token_id": [2, 3, 4],
            "attention_bias": self.biases, "mlp_bias": self.biases,
        });
        let map = config.as_object_mut().unwrap();
        map.extend(self.more.as_object().unwrap().clone());
        if let Some(q) = &self.quantization {
            map.insert("quantization_config".into(), q.clone());
        }
        config
    }

    /// Names, shapes and values of all tensors.
    fn tensors(&self) -> Vec<(TensorSpec, Vec<u8>)> {
        let mut random = Random(self.hidden as u64 * 31 + self.ffn as u64);
        let mut out = Vec::new();
        let (q, kv) = (self.heads * self.head_dim, self.kv_heads * self.head_dim);
        let (hidden, ffn) = (self.hidden, self.ffn);
        let mut floats = |name: String, shape: &[usize], of: &dyn Fn(f32) -> f32| {
            let values: Vec<f32> = (0..shape.iter().product()).map(|_| of(random.next())).collect();
            let bytes = values.iter().flat_map(|v| v.to_le_bytes()).collect();
            out.push((TensorSpec::new(name, TensorType::F32, shape), bytes));
        };
        let norm = |x: f32| 1.0 + 0.3 * x;
        floats("model.embed_tokens.weight".into(), &[32, hidden], &|x| x);
        floats("model.norm.weight".into(), &[hidden], &norm);
        if !self.tied {
            floats("lm_head.weight".into(), &[32, hidden], &|x| x);
        }
        for layer in 0..2 {
            let at = |tail: &str| format!("model.layers.{layer}.{tail}");
            floats(at("input_layernorm.weight"), &[hidden], &norm);
            floats(at("post_attention_layernorm.weight"), &[hidden], &norm);
            if self.sub_norms {
                floats(at("self_attn.attn_sub_norm.weight"), &[q], &norm);
                floats(at("mlp.ffn_sub_norm.weight"), &[ffn], &norm);
            }
            let shapes = [
                ("self_attn.q_proj", q, hidden),
                ("self_attn.k_proj", kv, hidden),
                ("self_attn.v_proj", kv, hidden),
                ("self_attn.o_proj", hidden, q),
                ("mlp.gate_proj", ffn, hidden),
                ("mlp.up_proj", ffn, hidden),
                ("mlp.down_proj", hidden, ffn),
            ];
            for (name, rows, cols) in shapes {
                let zero = name == self.zero;
                floats(at(&format!("{name}.weight")), &[rows, cols], &|x| {
                    if zero { 0.0 } else { self.spread * x }
                });
                let inputs = ["self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj"].contains(&name);
                if self.biases && (inputs || self.class != "Qwen2ForCausalLM") {
                    floats(at(&format!("{name}.bias")), &[rows], &|x| 0.5 * x);
                }
                if self.input_norms {
                    floats(at(&format!("{name}.rms_norm.weight")), &[cols], &norm);
                }
            }
        }
        if self.quantization.is_none() {
            out.iter_mut().filter(|(spec, _)| spec.name.contains("_proj.weight")).for_each(ternary_f16);
        }
        out
    }

    /// Writes the model as a directory, in two shards when `sharded`.
    pub fn write(&self, directory: &Path, sharded: bool) {
        fs::create_dir_all(directory).unwrap();
        fs::write(directory.join("config.json"), self.config().to_string()).unwrap();
        let tensors = self.tensors();
        let half = if sharded { tensors.len() / 2 } else { tensors.len() };
        let mut index = BTreeMap::new();
        for (number, part) in [&tensors[..half], &tensors[half..]].into_iter().enumerate() {
            let name =
                if sharded { format!("model-{number}.safetensors") } else { "model.safetensors".into() };
            let specs: Vec<TensorSpec> = part.iter().map(|(spec, _)| spec.clone()).collect();
            if specs.is_empty() {
                continue;
            }
            let mut writer =
                SafetensorsWriter::create(&directory.join(&name), &BTreeMap::new(), &specs).unwrap();
            for (spec, bytes) in part {
                writer.write(&spec.name, bytes).unwrap();
                index.insert(spec.name.clone(), name.clone());
            }
            writer.finish().unwrap();
        }
        if sharded {
            let text = json!({ "metadata": {}, "weight_map": index }).to_string();
            fs::write(directory.join("model.safetensors.index.json"), text).unwrap();
        }
    }
}

/// Replaces masters by exactly ternary f16, with one scale for the upper and one for the lower half of the rows, as models
/// trained in two parallel shards have.
fn ternary_f16((spec, bytes): &mut (TensorSpec, Vec<u8>)) {
    spec.ty = TensorType::F16;
    let values: Vec<f32> = bytes.chunks(4).map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]])).collect();
    let upper = values.len() / 2;
    let weight = |(i, v): (usize, &f32)| {
        let scale = if i < upper { 0.0371 } else { 0.0529 };
        f16::from_f32((v / 0.035).round().clamp(-1.0, 1.0) * scale).to_le_bytes()
    };
    *bytes = values.iter().enumerate().flat_map(weight).collect();
}
