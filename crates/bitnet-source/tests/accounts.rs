//! Every tensor of a file is read, known to change nothing, left out with a word, or a reason to refuse it.

// A test that cannot write its data has nothing better to do than to stop.
#![allow(clippy::unwrap_used)]

mod common;

use bitnet_model::{Part, Projection, Weight};
use bitnet_source::{Source, SourceError};
use common::{Tensor, block, checkpoint, config, directory, gguf, open, refusal, tensors, vector};
use serde_json::{Value, json};

/// A Llama-class directory with more tensors and keys.
fn with(name: &str, more: Vec<Tensor>, keys: &[(&str, Value)]) -> std::path::PathBuf {
    let mut config = config("LlamaForCausalLM");
    config.extend(keys.iter().map(|(key, value)| ((*key).to_owned(), value.clone())));
    let all: Vec<Tensor> = tensors().into_iter().chain(more).collect();
    directory(name, &config, &all)
}

#[test]
fn tensors_that_would_change_the_result_are_refused() {
    let attention = "model.layers.0.self_attn";
    let cases: [(Vec<Tensor>, &[&str]); 10] = [
        (
            vec![vector(&format!("{attention}.q_proj.lora_A.default.weight"), 16)],
            &["lora_A", "was not merged", "--adapter"],
        ),
        (vec![vector(&format!("{attention}.attn_sub_norm.weight"), 16)], &["attn_sub_norm", "no such norm"]),
        (
            vec![
                vector(&format!("{attention}.q_norm.weight"), 8),
                vector(&format!("{attention}.k_norm.weight"), 8),
            ],
            &["q_norm.weight' (and 1 more)", "no such norm"],
        ),
        (block(1), &["model.layers.1.", "(and 8 more)", "num_hidden_layers is 1", "up to 2"]),
        (vec![vector(&format!("{attention}.q_proj.bias"), 16)], &["q_proj.bias", "attention_bias"]),
        (vec![vector("model.norm.bias", 16)], &["model.norm.bias"]),
        (vec![vector("lm_head.bias", 8)], &["lm_head.bias"]),
        (vec![vector("model.layers.0.mlp.experts.0.w1.weight", 16)], &["experts.0", "mixture of experts"]),
        (vec![vector("model.layers.0.mlp.gate_proj.weight_scale", 1)], &["weight_scale", "not packed"]),
        (
            vec![vector("model.layers.0.something.weight", 16)],
            &["something.weight", "do not compute with it"],
        ),
    ];
    for (i, (more, parts)) in cases.into_iter().enumerate() {
        let path = with(&format!("unread-{i}"), more.clone(), &[]);
        let text = refusal(&path);
        assert!(parts.iter().all(|part| text.contains(part)), "{parts:?}: {text}");
        // Who only looks sees all of them by name.
        let source = Source::to_look_at(checkpoint(&path)).unwrap();
        assert_eq!(source.unread().len(), more.len(), "{parts:?}");
        assert!(matches!(source.refused(), Some(SourceError::Unread { .. })));
    }
}

#[test]
fn what_stands_beside_a_decoder_is_left_out_with_one_word_and_tables_without() {
    let beside = ["vision_tower.patch.weight", "multi_modal_projector.bias", "model.visual.blocks.0.weight"];
    let tables =
        ["model.layers.0.self_attn.rotary_emb.inv_freq", "model.layers.0.self_attn.attn.masked_bias"];
    let more = beside.iter().chain(&tables).map(|name| vector(name, 4)).collect();
    let source = open(&with("beside", more, &[])).unwrap();
    assert_eq!(source.unread().len(), 3);
    let warnings = source.warnings();
    assert_eq!(warnings.len(), 1, "{warnings:?}");
    assert!(warnings[0].contains("3 tensors") && warnings[0].contains("left out"), "{warnings:?}");
    let source = open(&with("tables", vec![vector(tables[0], 4)], &[])).unwrap();
    assert!(source.warnings().is_empty() && source.unread().is_empty());
    assert!(open(&with("plain", vec![], &[])).unwrap().warnings().is_empty());
}

#[test]
fn a_head_is_tied_where_nobody_says_otherwise() {
    let no = [("tie_word_embeddings", json!(false))];
    let text = refusal(&with("untied", vec![], &no));
    assert!(text.contains("lm_head.weight") && text.contains("tie_word_embeddings"), "{text}");
    let unsaid = [("tie_word_embeddings", json!(null))];
    assert!(open(&with("unsaid", vec![], &unsaid)).unwrap().config().tied_head);
    let embedding = tensors().swap_remove(0);
    let head = |values: Vec<f32>| (String::from("lm_head.weight"), embedding.1.clone(), values);
    // The cure works, and a head of its own is used where the configuration says that there is one.
    assert!(!open(&with("own", vec![head(embedding.2.clone())], &no)).unwrap().config().tied_head);
    let source = open(&with("twice", vec![head(embedding.2.clone())], &[])).unwrap();
    assert!(source.config().tied_head && source.unread().is_empty());
    let mut other = embedding.2.clone();
    other[3] += 1.0;
    let text = refusal(&with("other-head", vec![head(other)], &[]));
    assert!(text.contains("lm_head.weight") && text.contains("tie_word_embeddings"), "{text}");
}

#[test]
fn biases_are_those_that_the_class_has() {
    let biases = |names: &[(&str, usize)]| -> Vec<Tensor> {
        names.iter().map(|(name, len)| vector(&format!("model.layers.0.{name}.bias"), *len)).collect()
    };
    let inputs = biases(&[("self_attn.q_proj", 16), ("self_attn.k_proj", 8), ("self_attn.v_proj", 8)]);
    let output = biases(&[("self_attn.o_proj", 16)]);
    let yes = [("attention_bias", json!(true))];
    let text = refusal(&with("bias-missing", inputs.clone(), &yes));
    assert!(text.contains("o_proj.bias"), "{text}");
    let all = [inputs.clone(), output.clone()].concat();
    let source = open(&with("bias-all", all.clone(), &yes)).unwrap();
    assert_eq!(source.vectors().iter().filter(|part| matches!(part, Part::Bias(..))).count(), 4);
    // Qwen2's class: those of attention's inputs, and no others, whatever is said.
    let qwen2 = |name: &str, more: Vec<Tensor>| {
        let all: Vec<Tensor> = tensors().into_iter().chain(more).collect();
        directory(name, &config("Qwen2ForCausalLM"), &all)
    };
    let source = open(&qwen2("qwen2", inputs)).unwrap();
    assert_eq!((source.config().family, source.config().qk_norms), ("qwen2", false));
    assert!(source.vector(Part::Bias(0, Projection::Key)).unwrap().is_some());
    assert!(refusal(&qwen2("qwen2-none", vec![])).contains("q_proj.bias"));
    assert!(refusal(&qwen2("qwen2-more", all)).contains("o_proj.bias"));
    let text = refusal(&gguf("qwen2-gguf-none", "qwen2", |_| {}, vec![]));
    assert!(text.contains("attn_q.bias"), "{text}");
    let more = [("attn_q", 16), ("attn_k", 8), ("attn_v", 8)];
    let more = more.map(|(stem, len)| vector(&format!("blk.0.{stem}.bias"), len)).to_vec();
    let source = open(&gguf("qwen2-gguf", "qwen2", |_| {}, more)).unwrap();
    assert_eq!(source.config().family, "qwen2");
    // Its rows are not interleaved, unlike those of architecture `llama`.
    assert!(!source.reorders(Part::Weight(0, Projection::Query)));
}

#[test]
fn fewer_and_more_layers_than_the_configuration_says() {
    let text = refusal(&with("fewer", vec![], &[("num_hidden_layers", json!(3))]));
    assert!(
        text.contains("number of layers") && text.contains("expected 1") && text.contains("got 3"),
        "{text}"
    );
    let two = with("two", block(1), &[("num_hidden_layers", json!(2))]);
    assert_eq!(open(&two).unwrap().config().layers, 2);
}

#[test]
fn gguf_tensors_are_accounted_for_too() {
    for (name, len) in [
        ("blk.0.attn_sub_norm.weight", 16),
        ("blk.0.attn_q_norm.weight", 8),
        ("blk.1.attn_norm.weight", 16),
        ("blk.0.ffn_gate_inp.weight", 16),
        ("output_norm.bias", 16),
        ("rope_factors_long.weight", 4),
        ("token_embd_norm.weight", 16),
    ] {
        let text = refusal(&gguf("unread", "llama", |_| {}, vec![vector(name, len)]));
        assert!(text.contains(name), "{name}: {text}");
    }
    let more = vec![vector("v.patch_embd.weight", 16), vector("blk.0.attn_rot_embd.weight", 4)];
    let source = open(&gguf("seeing", "llama", |_| {}, more)).unwrap();
    assert_eq!(source.unread(), ["v.patch_embd.weight"]);
}

#[test]
fn prefixes_of_wrappers_are_read_over() {
    let plain = open(&with("prefix-none", vec![], &[])).unwrap();
    let values = |source: &Source, part| match source.weight(part).unwrap() {
        Weight::Table(table) => {
            let mut row = vec![0.0; table.cols()];
            table.row_to_f32(1, &mut row);
            row
        }
        other => panic!("{other:?}"),
    };
    for (i, prefix) in [
        "_orig_mod.",
        "module.",
        "language_model.",
        "base_model.model.",
        "module._orig_mod.",
        "model.language_",
    ]
    .into_iter()
    .enumerate()
    {
        let embedding = tensors().swap_remove(0);
        let mut all = tensors();
        all.iter_mut().for_each(|(name, ..)| name.insert_str(0, prefix));
        // The head of a model that sees stands outside.
        let head = if prefix == "model.language_" { String::new() } else { prefix.into() } + "lm_head.weight";
        all.push((head, embedding.1, embedding.2));
        all.push(vector("vision_tower.patch.weight", 4));
        let mut config = config("LlamaForCausalLM");
        config.insert("tie_word_embeddings".into(), json!(false));
        let source = open(&directory(&format!("prefix-{i}"), &config, &all)).unwrap();
        let query = Part::Weight(0, Projection::Query);
        assert_eq!(values(&source, query), values(&plain, query), "{prefix}");
        assert!(source.has(Part::Head) && source.name(query).starts_with(prefix));
        assert_eq!(source.unread(), ["vision_tower.patch.weight"], "{prefix}");
        // Within the prefix everything counts as ever.
        all.push(vector(&format!("{prefix}model.layers.0.self_attn.q_norm.weight"), 8));
        assert!(refusal(&directory(&format!("prefix-{i}"), &config, &all)).contains("q_norm"));
    }
    let mut two = tensors();
    two.iter_mut().for_each(|(name, ..)| name.insert_str(0, "a."));
    two.extend(tensors().into_iter().map(|(name, shape, values)| (format!("b.{name}"), shape, values)));
    let text = refusal(&directory("prefix-two", &config("LlamaForCausalLM"), &two));
    assert!(text.contains("one decoder"), "{text}");
}

#[test]
fn numbers_that_are_not_finite_are_refused_by_name() {
    for name in [
        "model.norm.weight",
        "model.layers.0.input_layernorm.weight",
        "model.embed_tokens.weight",
        "lm_head.weight",
    ] {
        for bad in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
            let embedding = tensors().swap_remove(0);
            let mut all = tensors();
            all.push(("lm_head.weight".into(), embedding.1, embedding.2));
            all.iter_mut().find(|t| t.0 == name).unwrap().2[5] = bad;
            let mut config = config("LlamaForCausalLM");
            config.insert("tie_word_embeddings".into(), json!(false));
            let source = open(&directory("not-finite", &config, &all)).unwrap();
            let vectors = source.vectors().into_iter().map(|part| source.vector(part).err());
            let errors: Vec<SourceError> =
                vectors.chain(source.matrices().map(|part| source.weight(part).err())).flatten().collect();
            let [error] = &errors[..] else { panic!("{name}: {errors:?}") };
            let text = error.to_string();
            assert!(text.contains(name) && text.contains("finite"), "{bad} in {name}: {text}");
        }
    }
}

/// A Llama-class directory whose index puts tensors into a second file that is not there: `gone` of the model's own, and `more`.
fn without_a_shard(name: &str, gone: &[&str], more: &[&str], keys: &[(&str, Value)]) -> std::path::PathBuf {
    let mut config = config("LlamaForCausalLM");
    config.extend(keys.iter().map(|(key, value)| ((*key).to_owned(), value.clone())));
    let (absent, kept): (Vec<Tensor>, Vec<Tensor>) =
        tensors().into_iter().partition(|(name, ..)| gone.iter().any(|gone| name.ends_with(gone)));
    let path = directory(name, &config, &kept);
    std::fs::rename(path.join("model.safetensors"), path.join("model-1.safetensors")).unwrap();
    let there = kept.iter().map(|(name, ..)| (name.clone(), json!("model-1.safetensors")));
    let absent = absent.iter().map(|(name, ..)| name.as_str()).chain(more.iter().copied());
    let absent = absent.map(|name| (name.to_owned(), json!("model-2.safetensors")));
    let map: serde_json::Map<String, Value> = there.chain(absent).collect();
    std::fs::write(path.join("model.safetensors.index.json"), json!({ "weight_map": map }).to_string())
        .unwrap();
    path
}

#[test]
fn an_absent_shard_that_no_part_reads_is_left_out_with_one_word() {
    let more = [
        "vision_tower.patch.weight",
        "model.visual.blocks.0.weight",
        "model.layers.0.self_attn.rotary_emb.inv_freq",
    ];
    let source = open(&without_a_shard("shard-beside", &[], &more, &[])).unwrap();
    let warnings = source.warnings();
    assert_eq!(warnings.len(), 1, "{warnings:?}");
    assert!(warnings[0].contains("2 tensors") && warnings[0].contains("left out"), "{warnings:?}");
}

#[test]
fn an_absent_shard_that_a_part_reads_is_refused_by_name() {
    let biased = [("attention_bias", json!(true))];
    type Case<'a> = (&'a str, &'a [&'a str], &'a [&'a str], &'a [(&'a str, Value)]);
    let cases: [Case<'_>; 7] = [
        ("model.layers.0.mlp.up_proj.weight", &["mlp.up_proj.weight"], &[], &[]),
        ("model.embed_tokens.weight", &["embed_tokens.weight"], &[], &[]),
        ("model.norm.weight", &["model.norm.weight"], &["vision_tower.patch.weight"], &[]),
        // Without its file the head would count as none, which means the embedding.
        ("lm_head.weight", &[], &["lm_head.weight"], &[]),
        ("lm_head.weight", &[], &["lm_head.weight"], &[("tie_word_embeddings", json!(null))]),
        ("model.layers.0.self_attn.q_proj.bias", &[], &["model.layers.0.self_attn.q_proj.bias"], &biased),
        ("model.layers.0.mlp.up_proj.weight", &["embed_tokens.weight", "mlp.up_proj.weight"], &[], &[]),
    ];
    for (i, (tensor, gone, more, keys)) in cases.into_iter().enumerate() {
        let path = without_a_shard(&format!("shard-gone-{i}"), gone, more, keys);
        let text = refusal(&path);
        let directory = path.display().to_string();
        let says = ["model-2.safetensors", directory.as_str(), "put it beside the others"];
        assert!(says.iter().all(|part| text.contains(part)), "{text}");
        assert!(gone.len() == 2 || text.contains(&format!("\"{tensor}\"")), "{text}");
    }
    // What would change the model is refused wherever it lies.
    let text =
        refusal(&without_a_shard("shard-expert", &[], &["model.layers.0.mlp.experts.0.w1.weight"], &[]));
    assert!(text.contains("mixture of experts"), "{text}");
}
