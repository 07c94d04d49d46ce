//! Models that would be computed wrongly are refused when they are opened, with a sentence that says what they are.

// A test that cannot write its data has nothing better to do than to stop.
#![allow(clippy::unwrap_used)]

mod common;

use std::path::PathBuf;

use bitnet_format::{Checkpoint, GgufKeys, GgufWriter, TensorSpec, TensorType};
use bitnet_model::GateActivation;
use bitnet_source::{Source, SourceError};
use common::{config, directory, gguf, refusal, tensors, with_key};
use serde_json::{Value, json};

/// A GGUF with an embedding and these keys, opened as a model.
fn open(name: &str, fill: impl FnOnce(&mut GgufKeys)) -> SourceError {
    let path = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(format!("{name}.gguf"));
    let _ = std::fs::remove_file(&path);
    let mut keys = GgufKeys::new();
    fill(&mut keys);
    let spec = TensorSpec::new("token_embd.weight", TensorType::F32, vec![4, 8]);
    let mut writer = GgufWriter::create(&path, &keys, &[spec]).unwrap();
    writer.write("token_embd.weight", &[0; 4 * 8 * 4]).unwrap();
    writer.finish().unwrap();
    match Source::new(Checkpoint::open(&path, &Default::default()).unwrap()) {
        Err(error) => error,
        Ok(_) => panic!("{name} was taken for a model"),
    }
}

#[test]
fn an_embedding_model_is_not_a_decoder() {
    let error = open("embedding", |keys| {
        keys.str("general.architecture", "qwen3");
        keys.u32("qwen3.pooling_type", 3);
    });
    assert!(matches!(error, SourceError::Unsupported { .. }), "{error}");
    assert!(error.to_string().contains("an embedding model"), "{error}");
}

#[test]
fn an_unknown_architecture_is_named_with_the_known_ones() {
    let error = open("unknown", |keys| {
        keys.str("general.architecture", "gptneox");
    });
    let text = error.to_string();
    assert!(text.contains("gptneox") && text.contains("bitnet-b1.58"), "{text}");
}

#[test]
fn a_missing_size_is_named() {
    let error = open("sizeless", |keys| {
        keys.str("general.architecture", "bitnet");
    });
    assert!(error.to_string().contains("bitnet.embedding_length"), "{error}");
}

#[test]
fn a_contract_of_folded_weights_that_is_not_whole_is_refused_by_key() {
    let error = open("folded", |keys| {
        keys.str("general.architecture", "qwen3");
        keys.u32("prism.hadamard.version", 1);
    });
    assert!(error.to_string().contains("prism.hadamard.block_size"), "{error}");
    assert!(error.to_string().contains("the key is missing"), "{error}");
}

#[test]
fn keys_that_change_the_arithmetic_are_refused_by_name_and_neutral_values_are_not() {
    // (key, what is computed anyhow, what is not)
    let cases = [
        ("num_experts", json!([0, null]), json!([8])),
        ("num_local_experts", json!([0, null]), json!([1])),
        ("n_routed_experts", json!([null]), json!([64])),
        ("attn_logit_softcapping", json!([null]), json!([50.0])),
        ("final_logit_softcapping", json!([null, 0.0]), json!([30.0])),
        ("embedding_multiplier", json!([1, 1.0, null]), json!([12.0, 0])),
        ("residual_multiplier", json!([1.0]), json!([0.22])),
        ("logits_scaling", json!([1]), json!([8.0])),
        ("scale_emb", json!([1]), json!([12])),
        ("scale_depth", json!([1.0]), json!([1.4])),
        ("dim_model_base", json!([16]), json!([256])),
        ("attention_multiplier", json!([0.353_553_39]), json!([1.0, 0.0078125])),
        ("query_pre_attn_scalar", json!([8]), json!([256])),
        ("clip_qkv", json!([null]), json!([8.0])),
        ("partial_rotary_factor", json!([1.0, null]), json!([0.5])),
        ("rotary_pct", json!([1.0]), json!([0.25])),
        ("use_qk_norm", json!([false, null]), json!([true])),
        ("use_parallel_residual", json!([false]), json!([true])),
        ("alibi", json!([false]), json!([true])),
        ("skip_layers", json!([[], null]), json!([[1], [0.5]])),
        (
            "layer_types",
            json!([["full_attention"], null]),
            json!([["linear_attention"], ["chunked_attention"]]),
        ),
        ("no_rope_layers", json!([[1]]), json!([[0]])),
        ("sliding_window", json!([null, 64, 4096]), json!([32])),
        ("is_causal", json!([true]), json!([false])),
        ("position_embedding_type", json!(["rope", "rotary"]), json!(["alibi", "learned"])),
        ("mlp_multipliers", json!([[1.0, 1.0]]), json!([[0.5, 1.0]])),
        ("input_bits", json!([8]), json!([4])),
        ("hidden_activation", json!(["silu"]), json!(["gelu_pytorch_tanh", "relu2"])),
        ("q_lora_rank", json!([null]), json!([1536])),
        ("rope_interleaved", json!([false]), json!([true])),
    ];
    for (key, neutral, other) in cases {
        for value in neutral.as_array().unwrap() {
            let path = with_key("neutral", key, value.clone());
            assert!(common::open(&path).is_ok(), "{key} of {value}: {}", refusal(&path));
        }
        for value in other.as_array().unwrap() {
            let text = refusal(&with_key("not-neutral", key, value.clone()));
            let name = match key {
                "layer_types" => "layers of type",
                "no_rope_layers" => "layers without rotation",
                "sliding_window" => "sliding-window attention",
                "position_embedding_type" => "positions",
                key => key,
            };
            assert!(text.contains(name), "{key} of {value}: {text}");
        }
    }
}

#[test]
fn a_value_of_the_wrong_kind_is_an_error() {
    let cases = [
        ("hidden_act", json!(5)),
        ("tie_word_embeddings", json!("x")),
        ("tie_word_embeddings", json!(1)),
        ("eos_token_id", json!("x")),
        ("eos_token_id", json!(-1)),
        ("eos_token_id", json!(1_099_511_627_776u64)),
        ("eos_token_id", json!({})),
        ("eos_token_id", json!([2, "x"])),
        ("bos_token_id", json!(1.5)),
        ("architectures", json!([5])),
        ("architectures", json!("LlamaForCausalLM")),
        ("num_experts", json!("none")),
        ("final_logit_softcapping", json!("30")),
        ("use_sliding_window", json!("no")),
        ("sliding_window", json!("64")),
        ("attention_bias", json!("false")),
        ("rms_norm_eps", json!("1e-5")),
        ("quantization_config", json!("bitnet")),
        ("quantization_config", json!({ "quant_method": 5 })),
        ("quantization_config", json!({ "quant_method": "bitnet", "modules_to_not_convert": [5] })),
        ("quantization_config", json!({ "quant_method": "bitnet", "use_rms_norm": "yes" })),
        ("layer_types", json!("full_attention")),
        ("max_position_embeddings", json!(-1)),
    ];
    for (key, value) in cases {
        let text = refusal(&with_key("wrong-kind", key, value.clone()));
        // Of an object the key in it is named.
        let inner = value.as_object().and_then(|o| o.keys().find(|k| *k != "quant_method" || o.len() == 1));
        let named = inner.map_or(key, String::as_str);
        assert!(text.contains(named) && text.contains("expected"), "{key} of {value}: {text}");
    }
}

#[test]
fn windows_of_qwen_slide_only_where_they_are_switched_on() {
    let of = |keys: &[(&str, Value)]| {
        let mut config = config("Qwen3ForCausalLM");
        config.extend(keys.iter().map(|(key, value)| ((*key).to_owned(), value.clone())));
        let mut all = tensors();
        all.extend(
            ["q_norm", "k_norm"].map(|n| common::vector(&format!("model.layers.0.self_attn.{n}.weight"), 8)),
        );
        common::open(&directory("qwen-window", &config, &all)).map(drop).map_err(|e| e.to_string())
    };
    let window = ("sliding_window", json!(32));
    let on = ("use_sliding_window", json!(true));
    assert_eq!(of(std::slice::from_ref(&window)), Ok(()));
    // From layer 28 on, of one layer.
    assert_eq!(of(&[window.clone(), on.clone()]), Ok(()));
    let first = ("max_window_layers", json!(0));
    assert!(of(&[window.clone(), on.clone(), first.clone()]).unwrap_err().contains("sliding-window"));
    assert_eq!(of(&[("sliding_window", json!(null)), on, first]), Ok(()));
}

#[test]
fn mistral_has_a_window_where_nothing_is_said() {
    let of = |context: usize, more: &[(&str, Value)]| {
        let mut config = config("MistralForCausalLM");
        config.insert("max_position_embeddings".into(), json!(context));
        config.extend(more.iter().map(|(key, value)| ((*key).to_owned(), value.clone())));
        common::open(&directory("mistral", &config, &tensors())).map(drop).map_err(|e| e.to_string())
    };
    assert_eq!(of(4096, &[]), Ok(()));
    assert!(of(8192, &[]).unwrap_err().contains("sliding-window"));
    assert_eq!(of(8192, &[("sliding_window", json!(null))]), Ok(()));
}

#[test]
fn forms_of_others_are_told_for_what_they_are() {
    let mlx = refusal(&with_key("mlx", "quantization", json!({ "group_size": 64, "bits": 4 })));
    assert!(mlx.contains("MLX") && mlx.contains("4 bits"), "{mlx}");
    let awq = refusal(&with_key("awq", "quantization_config", json!({ "quant_method": "awq" })));
    assert!(awq.contains("awq"), "{awq}");
    let hybrid = refusal(&with_key("hybrid", "architectures", json!(["FalconH1ForCausalLM"])));
    assert!(hybrid.contains("this is a FalconH1ForCausalLM"), "{hybrid}");
    // An adapter names its base; the cure is to give that.
    let path = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("adapter-as-model");
    std::fs::create_dir_all(&path).unwrap();
    let json = r#"{"peft_type": "LORA", "base_model_name_or_path": "owner/base", "r": 4}"#;
    std::fs::write(path.join("adapter_config.json"), json).unwrap();
    std::fs::write(path.join("adapter_model.safetensors"), b"").unwrap();
    let text = refusal(&path);
    assert!(text.contains("an adapter for owner/base") && text.contains("--adapter"), "{text}");
    assert_eq!(refusal(&path.join("adapter_model.safetensors")), text);
    // Weights as pickles are refused in the same words as a model's.
    std::fs::remove_file(path.join("adapter_model.safetensors")).unwrap();
    std::fs::write(path.join("adapter_model.bin"), b"PK").unwrap();
    let base = common::open(&directory("adapter-base", &config("LlamaForCausalLM"), &tensors())).unwrap();
    let error = bitnet_source::Adapter::open(&path, base.config()).err().unwrap().to_string();
    assert!(error.contains("pickle") && error.contains("adapter_model.safetensors"), "{error}");
}

#[test]
fn gguf_files_that_are_no_plain_decoders() {
    let kind = |kind: &'static str| {
        refusal(&gguf(
            "kind",
            "llama",
            |keys| {
                keys.str("general.type", kind);
            },
            vec![],
        ))
    };
    assert!(kind("adapter").contains("an adapter (general.type), not a model"), "{}", kind("adapter"));
    assert!(kind("mmproj").contains("'mmproj'"), "{}", kind("mmproj"));
    let moe = open("experts", |keys| {
        keys.str("general.architecture", "llama");
        keys.u32("llama.expert_count", 8);
    });
    assert!(moe.to_string().contains("a mixture of experts"), "{moe}");
    let with = |key: &str, value: f32| {
        let path = gguf(
            "arithmetic",
            "llama",
            |keys| {
                keys.f32(&format!("llama.{key}"), value);
            },
            vec![],
        );
        common::open(&path).map(drop).map_err(|e| e.to_string())
    };
    for (key, neutral, other) in [
        ("attn_logit_softcapping", 0.0, 50.0),
        ("final_logit_softcapping", 0.0, 30.0),
        ("logit_scale", 1.0, 8.0),
        ("residual_scale", 1.0, 0.22),
        ("embedding_scale", 0.0, 12.0),
        ("attention.scale", 0.353_553_39, 1.0),
        ("attention.clamp_kqv", 0.0, 8.0),
        ("attention.max_alibi_bias", 0.0, 8.0),
        ("rope.scaling.alpha", 0.0, 1000.0),
    ] {
        assert_eq!(with(key, neutral), Ok(()), "{key}");
        let text = with(key, other).unwrap_err();
        assert!(text.contains(&format!("llama.{key}")), "{key}: {text}");
    }
    let window = |n: u32| {
        gguf(
            "window",
            "llama",
            |keys| {
                keys.u32("llama.attention.sliding_window", n);
            },
            vec![],
        )
    };
    assert!(common::open(&window(64)).is_ok());
    assert!(refusal(&window(32)).contains("sliding_window"));
    let sections = gguf(
        "sections",
        "llama",
        |keys| {
            keys.f32s("llama.rope.dimension_sections", &[2.0, 1.0]);
        },
        vec![],
    );
    assert!(refusal(&sections).contains("dimension_sections"));
}

#[test]
fn the_activation_of_a_gguf_is_what_it_says() {
    let with = |word: &'static str| {
        gguf(
            "activation",
            "llama",
            |keys| {
                keys.str("llama.hidden_activation", word);
            },
            vec![],
        )
    };
    let gate = |word| common::open(&with(word)).unwrap().config().activation;
    assert_eq!((gate("silu"), gate("relu2")), (GateActivation::Silu, GateActivation::SquaredRelu));
    let text = refusal(&with("gelu"));
    assert!(text.contains("llama.hidden_activation") && text.contains("gelu"), "{text}");
}

/// Converters have written BitNet b1.58 2B-4T under the architecture of models with another gate.
#[test]
fn a_2b_4t_under_architecture_bitnet_is_doubted_unless_it_says_its_gate() {
    let with = |vocab: usize, said: bool| {
        let mut more = vec![("token_embd.weight".to_owned(), vec![vocab, 16], vec![0.25; vocab * 16])];
        more.push(common::vector("blk.0.attn_sub_norm.weight", 16));
        more.push(common::vector("blk.0.ffn_sub_norm.weight", 24));
        let path = gguf(
            "like-2b-4t",
            "bitnet",
            |keys| {
                if said {
                    keys.str("bitnet.hidden_activation", "relu2");
                }
            },
            more,
        );
        let source = common::open(&path).unwrap();
        (source.config().activation, source.warnings())
    };
    let (gate, warnings) = with(128_256, false);
    assert_eq!(gate, GateActivation::Silu);
    assert!(
        matches!(&warnings[..], [one] if one.contains("hidden_activation") && one.contains("2B-4T")),
        "{warnings:?}"
    );
    assert_eq!(with(128_256, true), (GateActivation::SquaredRelu, vec![]));
    assert_eq!(with(8, false), (GateActivation::Silu, vec![]));
}
