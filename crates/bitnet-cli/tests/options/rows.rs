//! The options, verb by verb, and how each shows.

/// How an option shows.
pub enum Seen {
    /// The result is another one than without it.
    Changes,
    /// The same on standard error, which has these words with the option only.
    Tells(&'static str),
    /// The value reaches somebody who refuses it, with these words.
    Refused(&'static str),
    /// What fails without it is done with it.
    Allows,
    /// Standard output is JSON with it, and was not.
    Json,
}

use Seen::{Allows, Changes, Json, Refused, Tells};

/// A command line, the option that is added to it, and how it shows. `--a 1 | --a 2` compares two values, for what is another thing each
/// time without the option. Words in braces are paths of `Place`.
pub type Row = (&'static str, &'static str, Seen);

/// What is added to command lines that choose tokens.
const SAMPLING: [Row; 11] = [
    ("", "--temperature 4 --seed 7 | --greedy", Changes),
    ("--seed 7", "--temperature 4", Changes),
    ("--seed 7 --temperature 4", "--top-k 2", Changes),
    ("--seed 7 --temperature 4", "--top-p 0.05", Changes),
    ("--seed 7 --temperature 4", "--min-p 0.9", Changes),
    ("--seed 7 --greedy", "--repetition-penalty 3", Changes),
    ("--seed 7 --greedy", "--frequency-penalty 8", Changes),
    ("--seed 7 --greedy", "--presence-penalty 8", Changes),
    ("--seed 7 --greedy --repetition-penalty 3", "--penalty-window 1", Changes),
    ("--seed 7 --greedy", "--logit-bias 30=100", Changes),
    ("--temperature 1", "--seed 7 | --seed 8", Changes),
];

/// What is added to command lines that run a model; with `-v` they say how they run it.
const ENGINE: [Row; 8] = [
    ("", "--threads 3", Changes),
    ("", "--kernel scalar", Changes),
    ("", "--activations float", Changes),
    ("", "--kv int8", Changes),
    ("", "--sparsity on", Changes),
    ("", "--layout base3", Changes),
    ("", "--tune again", Tells("measuring how this machine")),
    ("", "--adapter nowhere", Refused("nowhere")),
];

const RUN: &str = "run {model} First -v --json --logprobs 0 -n 24 --ignore-eos";
const RUN_ROWS: [Row; 14] = [
    ("run {twin} First -n 2 --seed 7", "--activations float", Tells("--activations does nothing here")),
    ("run -p First -n 3 --seed 7", "--model {model}", Changes),
    ("run {model} First -n 3 --seed 7", "--stats", Tells("/s)")),
    ("run {model} First -n 3 --seed 7", "--print ids", Changes),
    ("run {model} First -n 3 --seed 7", "--json", Json),
    ("run {model} First -n 3 --seed 7 --json", "--logprobs 1", Changes),
    ("run {model} First --seed 7 --json -n 9", "--chat", Changes),
    ("run {model} First --seed 7 --json -n 9 --chat", "--system Short.", Changes),
    ("run {model} First --seed 7 --json --greedy", "--max-new-tokens 5", Changes),
    ("run {model} First --seed 7 --json --logit-bias 2044=1000", "--ignore-eos", Changes),
    ("run {model} First --seed 7 --json --greedy -n 60", "--stop e", Changes),
    ("run {model} First --seed 7 --json --greedy -n 60", "--context 20", Changes),
    ("run {i2s} First --seed 7 --json -n 5", "--i2s-64", Changes),
    ("run {model}", "--prompt First", Allows),
];

const LOGITS: &str = "logits {model} -v --ids-file {ids} --out {out}";
const LOGITS_ROWS: [Row; 5] = [
    ("logits --ids-file {ids} --out {out}", "--model {model}", Allows),
    ("logits {i2s} --ids-file {ids} --out {out}", "--i2s-64", Changes),
    ("logits {model} --ids-file {ids} --out {out}", "--context 2", Refused("context")),
    ("logits {model} --ids-file {ids}", "--out {out}", Allows),
    ("logits {model} --out {out}", "--ids-file {ids}", Allows),
];

const PERPLEXITY: &str = "perplexity {model} -v --file {text} --json";
const PERPLEXITY_ROWS: [Row; 7] = [
    ("perplexity --file {text}", "--model {model}", Allows),
    ("perplexity {model}", "--file {text}", Allows),
    ("perplexity {model} --file {text} --json", "--window 64", Changes),
    ("perplexity {model} --file {text} --json --window 64", "--stride 20", Changes),
    ("perplexity {model} --file {text} --json --window 64", "--context 32", Refused("a window of 64")),
    ("perplexity {model} --file {text}", "--json", Json),
    ("perplexity {i2s} --file {text} --json", "--i2s-64", Changes),
];

const CHAT: &str = "chat {model} -v --json -n 24 --ignore-eos";
const CHAT_ROWS: [Row; 10] = [
    ("chat --seed 7 -n 9", "--model {model}", Changes),
    ("chat {model} --seed 7 --json -n 9", "--system Short.", Changes),
    ("chat {model} --seed 7 --json --greedy", "--max-new-tokens 5", Changes),
    ("chat {model} --seed 7 --json --logit-bias 2044=1000", "--ignore-eos", Changes),
    ("chat {model} --seed 7 --json --greedy -n 60", "--stop e", Changes),
    ("chat {model} --seed 7 --json --greedy -n 60", "--context 50", Changes),
    ("chat {model} --seed 7 -n 9", "--stats", Tells("/s)")),
    ("chat {model} --seed 7 -n 9", "--json", Changes),
    ("chat {model} --seed 7 -n 9", "--history {out}", Changes),
    ("chat {i2s} --seed 7 -n 5", "--i2s-64", Changes),
];

const EVALUATE: &str = "evaluate {model} -v --file {text} --json";
const EVALUATE_ROWS: [Row; 10] = [
    ("evaluate", "--model {model} --file {text}", Allows),
    ("evaluate {model}", "--file {text}", Allows),
    ("evaluate {model}", "--tasks {tasks}", Allows),
    ("evaluate {model} --tasks {tasks} --json", "--delimiter .", Changes),
    ("evaluate {model} --file {text} --json", "--against {i2s}", Changes),
    ("evaluate {model} --file {text} --json", "--window 64", Changes),
    ("evaluate {model} --file {text} --json --window 64", "--stride 20", Changes),
    ("evaluate {model} --file {text} --window 64", "--context 32", Refused("a window of 64")),
    ("evaluate {model} --file {text}", "--json", Json),
    ("evaluate {i2s} --file {text} --json", "--i2s-64", Changes),
];

const INSPECT_ROWS: [Row; 20] = [
    ("inspect", "--model {model}", Allows),
    ("inspect {model}", "--tensors", Changes),
    ("inspect {model}", "--json", Json),
    ("inspect {i2s} --tensors", "--i2s-64", Changes),
    ("inspect {model}", "--verify", Changes),
    ("inspect {model}", "--quality", Changes),
    ("inspect {model} --quality --json", "--masters {master}", Changes),
    ("inspect {model} --quality --json", "--against {i2s}", Changes),
    ("inspect {model} --quality --json", "--calibration {text}", Changes),
    ("inspect {model} --quality", "--html {out}", Changes),
    ("inspect {model} --quality --html {there}", "--force", Allows),
    ("inspect {model}", "--context 64", Changes),
    ("inspect {model}", "--kv int8", Changes),
    ("inspect {model}", "--kernel scalar", Changes),
    ("inspect {model}", "--threads 3", Tells("--threads does nothing here")),
    ("inspect {model}", "--activations float", Tells("--activations does nothing here")),
    ("inspect {model}", "--sparsity on", Tells("--sparsity does nothing here")),
    ("inspect {model}", "--layout base3", Tells("--layout does nothing here")),
    ("inspect {model}", "--tune again", Tells("--tune does nothing here")),
    ("inspect {model}", "--adapter nowhere", Tells("--adapter does nothing here")),
];

/// Verbs that run no model.
const FILE_ROWS: [Row; 15] = [
    ("convert {out} --to bitnet", "--model {model}", Allows),
    ("convert {model} {out}", "--to bitnet", Allows),
    ("convert {model} {there} --to bitnet", "--force", Allows),
    ("convert {model} {out} --to bitnet", "--json", Json),
    ("convert {i2s} {out} --to bitnet", "--i2s-64", Changes),
    ("tokenize First", "--model {model}", Allows),
    ("tokenize {model}", "--file {text}", Allows),
    ("tokenize {model} [300]", "--decode", Changes),
    ("tokenize {model} First", "--no-special", Changes),
    ("tokenize {model} <|end_of_text|>", "--plain", Changes),
    ("tokenize {model} First", "--pieces", Changes),
    ("man {folder}", "--force", Allows),
    ("doctor --json", "--threads 1 | --threads 2", Changes),
    ("doctor --json", "--kernel scalar", Changes),
    ("doctor", "--json", Json),
];

const QUANTIZE_ROWS: [Row; 19] = [
    ("quantize -o {out}", "--model {twin}", Allows),
    ("quantize {twin}", "--output {out}", Allows),
    ("quantize", "--job {job}", Allows),
    ("quantize", "--init {out}", Allows),
    ("quantize {twin} -o {there}", "--force", Allows),
    ("quantize {twin} -o {out}", "--json", Json),
    ("quantize {twin} -o {out} --json", "--method least-squares", Changes),
    ("quantize {twin} -o {out} --json --method least-squares", "--group tensor", Changes),
    ("quantize {twin} -o {out} --json --method least-squares", "--tables int8", Changes),
    ("quantize {twin} -o {out} --json", "--budget 150KB", Refused("measuring needs text")),
    ("quantize {twin} -o {out} --json", "--bits-per-weight 4", Refused("measuring needs text")),
    ("quantize {twin} -o {out} --json --window 64 --tokens 256", "--calibration {held}", Changes),
    ("quantize {twin} -o {out} --json --window 64 --held-out-tokens 64", "--held-out {held}", Changes),
    (
        "quantize {twin} -o {out} --json --held-out-tokens 128 --held-out {held}",
        "--window 64 | --window 32",
        Changes,
    ),
    (
        "quantize {twin} -o {out} --json --window 64 --calibration {held}",
        "--tokens 64 | --tokens 256",
        Changes,
    ),
    (
        "quantize {twin} -o {out} --json --window 64 --held-out {held}",
        "--held-out-tokens 64 | --held-out-tokens 128",
        Changes,
    ),
    ("quantize {twin} -o {out} --json --window 64 --tokens 256 --calibration {held}", "--damping 5", Changes),
    (
        "quantize {twin} -o {out} --json --window 64 --held-out-tokens 64 --held-out {held}",
        "--sensitivity",
        Changes,
    ),
    ("quantize {twin} -o {out} --json", "--threads 0", Refused("threads")),
];

const BENCH: &str =
    "bench --synthetic tiny --threads 1 --prompt 0 --generate 2 --repetitions 1 --no-breakdown --json";
const BENCH_ROWS: [Row; 11] = [
    ("", "--depth 5", Changes),
    ("", "--batch 2", Changes),
    ("", "--kernel scalar", Changes),
    ("", "--activations float", Changes),
    ("", "--layout base3", Changes),
    ("", "--head full | --head screened", Changes),
    ("", "--sparsity", Changes),
    ("", "--kv int8", Changes),
    ("", "--load=1", Changes),
    ("", "--compare {text}", Refused("text.txt")),
    ("", "--plot {out}", Changes),
];

const BENCH_MORE: [Row; 12] = [
    (
        "bench --threads 1 --prompt 0 --generate 2 --repetitions 1 --no-breakdown --json",
        "--model {model}",
        Allows,
    ),
    (
        "bench --threads 1 --prompt 0 --generate 2 --repetitions 1 --no-breakdown --json",
        "--synthetic tiny",
        Allows,
    ),
    ("bench --json", "--kernels", Allows),
    ("bench --synthetic tiny --json --threads 1", "--write {out}", Refused("--write")),
    ("bench --synthetic tiny --write {there}", "--force", Allows),
    (
        "bench --synthetic tiny --prompt 0 --generate 2 --repetitions 1 --no-breakdown --json",
        "--threads 1 | --threads 2",
        Changes,
    ),
    (
        "bench --synthetic tiny --threads 1 --generate 2 --repetitions 1 --no-breakdown --json",
        "--prompt 0 | --prompt 2",
        Changes,
    ),
    (
        "bench --synthetic tiny --threads 1 --prompt 2 --repetitions 1 --no-breakdown --json",
        "--generate 0 | --generate 2",
        Changes,
    ),
    (
        "bench --synthetic tiny --threads 1 --prompt 0 --generate 2 --no-breakdown --json",
        "--repetitions 1 | --repetitions 2",
        Changes,
    ),
    (
        "bench {i2s} --threads 1 --prompt 0 --generate 2 --repetitions 1 --no-breakdown --json",
        "--i2s-64",
        Changes,
    ),
    (
        "bench --synthetic tiny --threads 1 --prompt 0 --generate 2 --repetitions 1 --json",
        "--no-breakdown",
        Changes,
    ),
    (
        "bench --synthetic tiny --threads 1 --prompt 0 --generate 2 --repetitions 1 --no-breakdown",
        "--json",
        Json,
    ),
];

/// Options that have no row here, by verb, and where they are seen to do what they say.
pub const ELSEWHERE: [(&str, &str, &str); 8] = [
    // Where a prompt comes from.
    ("run", "file ids-file", "models.rs"),
    // Outputs that exist.
    ("logits", "force", "outputs.rs"),
    ("pull", "revision file json", "pull.rs and below"),
    ("list", "json", "pull.rs"),
    ("remove", "force yes", "pull.rs"),
    // Builds without training have these only to say so.
    ("train", "set threads init json", "train.rs"),
    ("finetune", "set threads init json", "finetune.rs"),
    ("twins", "text seeds steps rates set threads json", "twins.rs"),
];

/// All rows, each with its whole command line.
pub fn rows() -> Vec<(String, &'static str, Seen)> {
    let plain = RUN_ROWS.into_iter().chain(LOGITS_ROWS).chain(PERPLEXITY_ROWS).chain(CHAT_ROWS);
    let plain = plain
        .chain(EVALUATE_ROWS)
        .chain(INSPECT_ROWS)
        .chain(FILE_ROWS)
        .chain(QUANTIZE_ROWS)
        .chain(BENCH_MORE);
    let mut rows: Vec<_> = plain.map(|(base, option, seen)| (base.to_owned(), option, seen)).collect();
    let mut add = |base: &str, with: Vec<Row>| {
        rows.extend(
            with.into_iter().map(|(beside, option, seen)| (format!("{base} {beside}"), option, seen)),
        );
    };
    add(BENCH, BENCH_ROWS.into());
    for base in [RUN, CHAT] {
        add(base, SAMPLING.into());
    }
    let seeded = |base: &str| format!("{base} --seed 7 --temperature 3");
    for base in [seeded(RUN), seeded(CHAT), LOGITS.to_owned(), PERPLEXITY.to_owned(), EVALUATE.to_owned()] {
        add(&base, ENGINE.into());
    }
    rows
}
