use bitnet_model::ActivationChoice;
use bitnet_source::Source;

use super::*;
use crate::{InferenceEngine, LoadOptions};

const MODEL: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../testdata/oracle/bitnet-a-offline-packed");

#[test]
fn a_small_gain_is_not_worth_leaving_the_default() {
    let choice = |rates: [f64; 3]| {
        let mut trials = Vec::new();
        let best = choose("threads", &[1, 2, 4], 4, rates.to_vec(), &mut trials);
        assert_eq!(trials.iter().filter(|t| t.chosen).count(), 1);
        best
    };
    assert_eq!(choice([10.0, 10.2, 10.0]), 4);
    assert_eq!(choice([10.0, 10.4, 10.0]), 2);
    assert_eq!(choice([12.0, 10.4, 10.0]), 1);
}

#[test]
fn threads_are_compared_from_all_downwards() {
    assert_eq!(candidates(1), [1]);
    assert_eq!(candidates(2), [1, 2]);
    assert_eq!(candidates(12), [3, 6, 12]);
}

#[test]
fn every_knob_has_one_choice() {
    let checkpoint = bitnet_format::Checkpoint::open(MODEL, &Default::default()).unwrap();
    let source = Source::new(checkpoint).unwrap();
    let kernel = bitnet_kernels::select(None).unwrap();
    let options = TuneOptions { kernel, threads: None, activations: ActivationChoice::Auto };
    let tuned = tune(bitnet_model::PartSource::config(&source), &options).unwrap();
    for knob in ["threads", "layout", "rows per chunk", "prefill", "pages"] {
        let trials = tuned.trials.iter().filter(|t| t.knob == knob);
        assert_eq!(trials.clone().filter(|t| t.chosen).count(), 1, "{knob}");
        assert!(trials.clone().all(|t| t.tokens_per_second > 0.0), "{knob}");
    }
    assert!(tuned.tuning.threads.is_some());
}

/// Every tuning that could be chosen gives the same logits, to the bit.
#[test]
fn results_do_not_depend_on_the_tuning() {
    let logits = |tuning: Tuning, context| {
        let options = LoadOptions { tuning, context: Some(context), ..LoadOptions::default() };
        let engine = InferenceEngine::load(MODEL, &options).unwrap();
        let ids: Vec<u32> = (0..90).map(|i| i * 7 % 200).collect();
        engine.session().unwrap().feed(&ids).unwrap().iter().map(|l| l.to_bits()).collect::<Vec<_>>()
    };
    let expected = logits(Tuning::default(), 128);
    for threads in [1, 2] {
        for rows_per_chunk in ROWS_PER_CHUNK {
            for prefill in PREFILLS {
                for huge_pages in [false, true] {
                    // One flag goes with the other, so that both values of both are met.
                    let base3 = huge_pages;
                    let tuning =
                        Tuning { threads: Some(threads), rows_per_chunk, prefill, base3, huge_pages };
                    assert_eq!(logits(tuning, 128), expected, "{tuning:?}");
                }
            }
        }
    }
}

/// Nobody waits for gigabytes of made-up weights: such a model is run in the usual way.
#[test]
fn a_model_of_huge_blocks_is_not_tuned() {
    let checkpoint = bitnet_format::Checkpoint::open(MODEL, &Default::default()).unwrap();
    let small = Source::new(checkpoint).unwrap();
    let huge = Config { hidden: 1 << 15, ffn: 1 << 17, ..small.config().clone() };
    let kernel = bitnet_kernels::select(None).unwrap();
    let options = TuneOptions { kernel, threads: None, activations: ActivationChoice::Auto };
    let tuned = tune(&huge, &options).unwrap();
    assert_eq!((tuned.tuning, tuned.layers, tuned.trials.len()), (Tuning::default(), 0, 0));
}
