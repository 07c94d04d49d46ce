//! Rotary frequencies: numbers that numpy computed (`tests/oracle/make_small.py`), and every spelling of a scaling.

// A test that cannot write its data has nothing better to do than to stop.
#![allow(clippy::unwrap_used)]

mod common;

use bitnet_model::{Rope, RopeScaling, Yarn};
use common::{config, directory, gguf, open, refusal, tensors, with_key};
use serde_json::{Value, json};

/// The scaling of a Llama-class directory whose `rope_scaling`, or another key, is `value`.
fn scaling_of(key: &str, value: Value) -> RopeScaling {
    let path = with_key("rope-scaling", key, value);
    open(&path).unwrap().config().rope.scaling.clone()
}

fn yarn(factor: f32, original_context: f32) -> Yarn {
    let attention_factor = Yarn::magnitude(f64::from(factor), 1.0) as f32;
    let (beta_fast, beta_slow) = (Yarn::BETA_FAST, Yarn::BETA_SLOW);
    Yarn { factor, original_context, beta_fast, beta_slow, attention_factor, truncate: true }
}

/// Every so many frequencies, in bits.
#[track_caller]
fn check(theta: f32, head_dim: usize, scaling: RopeScaling, factor: u32, expected: [u32; 8], ulps: u32) {
    let rope = Rope { theta, scaling };
    let got: Vec<u32> =
        rope.frequencies(head_dim).iter().step_by(head_dim / 16).map(|f| f.to_bits()).collect();
    assert_eq!(got.len(), 8);
    for (got, want) in got.iter().zip(expected) {
        assert!(got.abs_diff(want) <= ulps, "{got:#010x} for {want:#010x} of {expected:x?}");
    }
    assert_eq!(rope.attention_factor().to_bits(), factor);
}

#[test]
fn llama3_keeps_high_frequencies_and_divides_low_ones() {
    let scaling = RopeScaling::Llama3 { factor: 8.0, low: 1.0, high: 4.0, original_context: 8192.0 };
    // numpy rounds the power in another place: one unit in the last place.
    let expected = [
        0x3f80_0000,
        0x3e46_93af,
        0x3d1a_08c8,
        0x3bee_f74e,
        0x3a09_95d3,
        0x380f_c8f8,
        0x36df_10c4,
        0x35ad_07a7,
    ];
    check(500_000.0, 64, scaling, 0x3f80_0000, expected, 2);
}

#[test]
fn yarn_is_that_of_the_paper_to_the_last_bit() {
    let expected = [
        0x3f80_0000,
        0x3e36_1887,
        0x3d01_86e3,
        0x3b7e_b931,
        0x39b1_552c,
        0x383a_7753,
        0x3704_a2b2,
        0x35bc_b0c1,
    ];
    check(1e6, 128, RopeScaling::Yarn(yarn(4.0, 8192.0)), 0x3f91_be9c, expected, 0);
    let expected = [
        0x3f80_0000,
        0x3ea1_e89b,
        0x3dcc_cccd,
        0x3d01_86e3,
        0x3c17_be0c,
        0x3ad3_c506,
        0x3983_126f,
        0x38a5_cb60,
    ];
    let untruncated = Yarn { truncate: false, beta_fast: 16.0, beta_slow: 2.0, ..yarn(4.0, 8192.0) };
    check(1e4, 64, RopeScaling::Yarn(untruncated), 0x3f91_be9c, expected, 0);
    let said = json!({
        "rope_type": "yarn", "factor": 40.0, "original_max_position_embeddings": 4096, "mscale": 0.707, "mscale_all_dim": 1.0,
    });
    let expected = [
        0x3f80_0000,
        0x3ea1_e89b,
        0x3dcc_cccd,
        0x3cdc_321b,
        0x3bb4_3959,
        0x3a4f_3e37,
        0x37d1_b717,
        0x3704_a2b3,
    ];
    check(1e4, 128, scaling_of("rope_parameters", said), 0x3f6b_c96f, expected, 0);
}

#[test]
fn yarn_has_many_spellings_in_a_directory() {
    let want = RopeScaling::Yarn(yarn(4.0, 16.0));
    for (key, said) in [
        ("rope_scaling", json!({ "type": "yarn", "factor": 4, "original_max_position_embeddings": 16 })),
        (
            "rope_scaling",
            json!({ "rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 16 }),
        ),
        (
            "rope_parameters",
            json!({ "rope_type": "yarn", "factor": 4, "original_max_position_embeddings": 16, "rope_theta": 1e4 }),
        ),
        // Nothing said, 0 and null stand for the defaults, as in Python.
        (
            "rope_scaling",
            json!({
                "type": "yarn", "factor": null, "original_max_position_embeddings": 16, "beta_fast": 0, "beta_slow": null,
                "attention_factor": null, "mscale": 0.5, "mscale_all_dim": 0, "truncate": null,
            }),
        ),
    ] {
        assert_eq!(scaling_of(key, said.clone()), want, "{said}");
    }
    let all = json!({
        "type": "yarn", "factor": 4, "original_max_position_embeddings": 16, "beta_fast": 8, "beta_slow": 2,
        "attention_factor": 1.5, "truncate": false,
    });
    let said =
        Yarn { beta_fast: 8.0, beta_slow: 2.0, attention_factor: 1.5, truncate: false, ..yarn(4.0, 16.0) };
    assert_eq!(scaling_of("rope_scaling", all), RopeScaling::Yarn(said));
    // Without an original context it is the model's.
    let short = json!({ "type": "yarn", "factor": 4 });
    assert_eq!(scaling_of("rope_scaling", short.clone()), RopeScaling::Yarn(yarn(4.0, 64.0)));
    // One beside the scaling counts more than one in it.
    let mut outside = config("LlamaForCausalLM");
    outside.insert("original_max_position_embeddings".into(), json!(8));
    outside.insert("rope_scaling".into(), short);
    let path = directory("rope-outside", &outside, &tensors());
    assert_eq!(open(&path).unwrap().config().rope.scaling, RopeScaling::Yarn(yarn(4.0, 8.0)));
}

#[test]
fn what_a_scaling_cannot_be_is_refused_by_name() {
    let cases = [
        ("rope_scaling", json!([]), "rope_scaling in config.json"),
        ("rope_scaling", json!("yarn"), "rope_scaling in config.json"),
        ("rope_scaling", json!({ "type": 5 }), "type in rope_scaling"),
        ("rope_scaling", json!({ "type": "dynamic", "factor": 2 }), "'dynamic' rope scaling"),
        ("rope_scaling", json!({ "type": "yarn" }), "factor in rope_scaling"),
        ("rope_scaling", json!({ "type": "yarn", "factor": "4" }), "factor in rope_scaling"),
        ("rope_scaling", json!({ "type": "yarn", "factor": -4 }), "rope scaling"),
        (
            "rope_scaling",
            json!({ "type": "yarn", "factor": 4, "beta_fast": 1, "beta_slow": 32 }),
            "rope scaling",
        ),
        ("rope_scaling", json!({ "type": "yarn", "factor": 4, "attention_factor": 0 }), "rope scaling"),
        (
            "rope_scaling",
            json!({ "type": "yarn", "factor": 4, "truncate": "no" }),
            "truncate in rope_scaling",
        ),
        (
            "rope_scaling",
            json!({ "type": "yarn", "factor": 4, "extrapolation_factor": 0.5 }),
            "'extrapolation_factor'",
        ),
        (
            "rope_scaling",
            json!({ "type": "yarn", "rope_type": "linear", "factor": 4 }),
            "type in rope_scaling",
        ),
        ("rope_scaling", json!({ "type": "default", "mrope_section": [1, 1, 2] }), "'mrope_section'"),
        (
            "rope_parameters",
            json!({ "rope_type": "default", "partial_rotary_factor": 0.5 }),
            "partial_rotary_factor",
        ),
        ("rope_parameters", json!({ "full_attention": { "rope_type": "default" } }), "'full_attention'"),
        ("rope_theta", json!("500000"), "rope_theta in config.json"),
        ("rope_theta", json!(1e39), "rope_theta in config.json"),
        ("rope_parameters", json!({ "rope_theta": "500000" }), "rope_theta in rope_parameters"),
        // Each number alone could be; what they make is no frequency, and attention would be no number.
        ("rope_scaling", json!({ "type": "linear", "factor": 1e-45 }), "frequencies of at most"),
        ("rope_theta", json!(1e-44), "frequencies of at most"),
        (
            "rope_scaling",
            json!({ "type": "yarn", "factor": 4, "attention_factor": 1e38 }),
            "an attention factor of at most",
        ),
    ];
    for (i, (key, said, part)) in cases.into_iter().enumerate() {
        let text = refusal(&with_key(&format!("rope-wrong-{i}"), key, said.clone()));
        assert!(text.contains(part), "{said}: {text}");
    }
    let mut two = config("LlamaForCausalLM");
    two.insert("rope_scaling".into(), json!({ "type": "linear", "factor": 2.0 }));
    two.insert("rope_parameters".into(), json!({ "rope_type": "linear", "factor": 2.0, "rope_theta": 5e4 }));
    let both = open(&directory("rope-two", &two, &tensors())).unwrap();
    assert_eq!(both.config().rope, Rope { theta: 5e4, scaling: RopeScaling::Linear { factor: 2.0 } });
    two.insert("rope_scaling".into(), json!({ "type": "linear", "factor": 4.0 }));
    let text = refusal(&directory("rope-two", &two, &tensors()));
    assert!(text.contains("rope_parameters"), "{text}");
}

#[test]
fn gguf_keys_of_scalings() {
    let of = |fill: &dyn Fn(&mut bitnet_format::GgufKeys)| {
        open(&gguf("rope-keys", "llama", |keys| fill(keys), vec![])).map(|s| s.config().rope.clone())
    };
    let theta = |scaling| Rope { theta: 10_000.0, scaling };
    // The base of files that do not say it, as in llama.cpp.
    assert_eq!(of(&|_| {}).unwrap(), theta(RopeScaling::None));
    let at = |tail: &str| format!("llama.rope.scaling.{tail}");
    let yarn_keys = |keys: &mut bitnet_format::GgufKeys| {
        keys.str(&at("type"), "yarn");
        keys.f32(&at("factor"), 4.0);
        keys.u32(&at("original_context_length"), 16);
    };
    assert_eq!(of(&yarn_keys).unwrap(), theta(RopeScaling::Yarn(yarn(4.0, 16.0))));
    let all = of(&|keys| {
        yarn_keys(keys);
        keys.f32(&at("yarn_beta_fast"), 8.0);
        keys.f32(&at("yarn_beta_slow"), 2.0);
        keys.f32(&at("yarn_ext_factor"), 1.0);
        keys.f32(&at("attn_factor"), 2.0);
    });
    let usual = yarn(4.0, 16.0);
    let want = Yarn {
        beta_fast: 8.0,
        beta_slow: 2.0,
        attention_factor: (2.0 * Yarn::magnitude(4.0, 1.0)) as f32,
        ..usual
    };
    assert_eq!(all.unwrap(), theta(RopeScaling::Yarn(want)));
    let whole = of(&|keys| {
        yarn_keys(keys);
        keys.f32(&at("yarn_attn_factor"), 1.25);
    });
    assert_eq!(whole.unwrap().attention_factor(), 1.25);
    // A tenth of `mscale_all_dim`; 0.1 makes both magnitudes the same.
    let log = of(&|keys| {
        yarn_keys(keys);
        keys.f32(&at("yarn_log_multiplier"), 0.1);
    });
    assert!((log.unwrap().attention_factor() - 1.0).abs() < 1e-6);
    // A factor without a type is linear, and the older key counts where the newer one is missing.
    let linear = Ok(theta(RopeScaling::Linear { factor: 2.0 }));
    assert_eq!(
        of(&|keys| {
            keys.f32(&at("factor"), 2.0);
        })
        .map_err(|e| e.to_string()),
        linear
    );
    assert_eq!(
        of(&|keys| {
            keys.f32("llama.rope.scale_linear", 2.0);
        })
        .map_err(|e| e.to_string()),
        linear
    );
    let none = of(&|keys| {
        keys.str(&at("type"), "none");
        keys.f32(&at("factor"), 2.0);
    });
    assert_eq!(none.unwrap(), theta(RopeScaling::None));
    type Fill<'a> = &'a dyn Fn(&mut bitnet_format::GgufKeys);
    let refused: [(&str, Fill<'_>); 4] = [
        ("'longrope'", &|keys| {
            keys.str(&at("type"), "longrope");
        }),
        ("rope.scaling.factor", &|keys| {
            keys.str(&at("type"), "yarn");
        }),
        ("yarn_ext_factor is 0.5", &|keys| {
            yarn_keys(keys);
            keys.f32(&at("yarn_ext_factor"), 0.5);
        }),
        ("attn_factor is 2", &|keys| {
            keys.f32(&at("attn_factor"), 2.0);
        }),
    ];
    for (part, fill) in refused {
        let text = of(fill).unwrap_err().to_string();
        assert!(text.contains(part), "{part}: {text}");
    }
}
