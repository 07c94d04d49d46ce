//! The time of a training step of an 8.9 M-parameter model, batch 4 x 128, for the ternary model and its float twin:
//! `cargo run --release -p bitnet-training --example step_time [THREADS [ternary|float [recompute]]]`. Of one twin alone it
//! also says the peak of the process's memory; with `recompute` blocks run again in the backward pass.

#![allow(clippy::unwrap_used)]

use std::{sync::Arc, time::Instant};

use bitnet_model::{Config, GateActivation, Rope, RopeScaling};
use bitnet_source::family;
use bitnet_training::{
    AdamWOptions, Corpus, FakeQuantization, Parameters, Schedule, Stages, Trainer, TrainerOptions,
    Transformer, on_threads,
};
use burn_tensor::Device;

const STEPS: usize = 12;

fn config() -> Config {
    Config {
        family: family::BITNET_B158,
        hidden: 256,
        ffn: 1024,
        layers: 8,
        heads: 8,
        kv_heads: 8,
        head_dim: 32,
        rotary_dim: 32,
        gated_attention: false,
        recurrent: None,
        fold: None,
        vocab: 2048,
        context: 128,
        norm_eps: 1e-5,
        rope: Rope { theta: 10_000.0, scaling: RopeScaling::None },
        activation: GateActivation::SquaredRelu,
        sub_norms: true,
        qk_norms: false,
        input_norm_eps: None,
        tied_head: true,
        trained_int8: true,
        bos: None,
        eos: Vec::new(),
    }
}

fn main() {
    let threads = std::env::args().nth(1).map_or(0, |n| n.parse().unwrap());
    on_threads(threads, measure).unwrap();
}

/// The most memory that this process has had, in MB, where the system says it.
fn peak() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    Some(line.trim().strip_suffix(" kB")?.parse::<u64>().ok()? / 1000)
}

fn measure() {
    let only = std::env::args().nth(2);
    let recomputes = std::env::args().nth(3).as_deref() == Some("recompute");
    let ids =
        |from: u32, count: u32| (from..from + count).map(|i| i.wrapping_mul(2_654_435_761) >> 21).collect();
    let corpus = Arc::new(Corpus { train: ids(0, 100_000), validation: ids(100_000, 1000) });
    for (name, quantization) in [("ternary", FakeQuantization::W158A8), ("float", FakeQuantization::NONE)] {
        if only.as_deref().is_some_and(|only| only != name) {
            continue;
        }
        let kernel = bitnet_kernels::select(None).unwrap();
        let model = Transformer::new(config(), quantization, kernel).unwrap().recomputing(recomputes);
        let parameters = Parameters::random(&config(), 1, 0.02, &Device::flex());
        let options = TrainerOptions {
            schedule: Schedule {
                steps: 1000,
                warmup: 10,
                peak: 1e-3,
                weight_decay: 0.1,
                stages: Stages::Constant,
            },
            optimizer: AdamWOptions::default(),
            batch: 4,
            accumulate: 1,
            positions: 128,
            seed: 1,
            lambda_steps: 0,
            divergence: 0.0,
            sum: false,
        };
        let count = parameters.count();
        let mut trainer = Trainer::new(model, parameters, corpus.clone(), options, Vec::new()).unwrap();
        trainer.step().unwrap();
        let mut times: Vec<f64> = (0..STEPS)
            .map(|_| {
                let begin = Instant::now();
                trainer.step().unwrap();
                begin.elapsed().as_secs_f64() * 1e3
            })
            .collect();
        times.sort_by(f64::total_cmp);
        println!(
            "{name}, threads {}: {count} parameters, median of {STEPS} steps {:.1} ms, fastest {:.1} ms, {:.0} tokens/s",
            rayon::current_num_threads(),
            times[STEPS / 2],
            times[0],
            512e3 / times[STEPS / 2]
        );
        if let (Some(_), Some(peak)) = (&only, peak()) {
            println!("{name}: {peak} MB at the peak");
        }
    }
}
