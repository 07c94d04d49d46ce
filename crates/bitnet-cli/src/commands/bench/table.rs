//! Rows as people read them.

use bitnet_benchmarks::{KernelRow, Row, RowChange};

use crate::{
    human::{self, Pairs, TextTable},
    terminal,
};

/// A row of results in one line of text.
pub fn line(row: &Row) -> String {
    let unreliable = if row.reliable { "" } else { " (unreliable)" };
    format!(
        "{:.2} tokens/s, {} of {}, {:.1} %{unreliable}",
        row.tokens_per_s,
        rate(row, row.rate),
        rate(row, row.limit),
        100.0 * row.of_limit
    )
}

/// What ran, the rows, and what is remarkable about them.
pub fn report(rows: &[Row]) -> String {
    // Generation by one sequence says most about bytes.
    let Some(first) = rows.iter().max_by_key(|r| (r.test, std::cmp::Reverse((r.batch, r.threads)))) else {
        return "nothing was measured\n".to_owned();
    };
    let mut text = head(first) + "\n";
    let mut table = TextTable::new(&[
        "test",
        "threads",
        "depth",
        "batch",
        "tokens/s",
        "spread",
        "per token",
        "reached",
        "limit",
        "of limit",
        "",
    ])
    .key(4);
    for row in rows {
        table.row(vec![
            format!("{}{}", row.test, row.tokens / row.batch),
            row.threads.to_string(),
            row.depth.to_string(),
            row.batch.to_string(),
            format!("{:.2}", row.tokens_per_s),
            format!("{:.1} %", 100.0 * row.summary.spread),
            if memory_bound(row) {
                human::bytes(row.bytes_per_token as u64)
            } else {
                human::operations(row.ops_per_token)
            },
            rate(row, row.rate),
            rate(row, row.limit),
            format!("{:.1} %", 100.0 * row.of_limit),
            if row.reliable { String::new() } else { "unreliable".to_owned() },
        ]);
    }
    text += &table.text();
    text += &terminal::fitted(remarks(rows));
    if rows.iter().any(|r| r.load.is_some()) {
        text += &format!("\n{}", loads(rows));
    }
    if let Some(slowest) =
        rows.iter().filter(|r| !r.breakdown.is_empty()).max_by_key(|r| (r.test, r.depth == 0))
    {
        text += &format!("\n{}", breakdowns(rows, slowest));
    }
    text
}

fn remarks(rows: &[Row]) -> String {
    let mut text = String::new();
    for row in rows {
        for note in &row.notes {
            text += &format!("{}: {note}\n", place(row));
        }
    }
    if let Some(row) = rows.iter().find(|r| r.batch > 1) {
        let limits = &row.limits;
        text += &format!(
            "{}: memory allows {:.1} tokens/s, the multiplier {:.1}; the tighter one is the limit\n",
            place(row),
            limits.tokens_per_s_by_bytes,
            limits.tokens_per_s_by_ops
        );
    }
    text
}

fn place(row: &Row) -> String {
    format!("{}, threads {}, depth {}, batch {}", row.test, row.threads, row.depth, row.batch)
}

/// What has changed since an earlier run, and what that means.
pub fn changes(changes: &[RowChange<'_>]) -> String {
    let mut table = TextTable::new(&["against before", "tokens/s", "of limit", "noise", "verdict"]);
    for change in changes {
        let percent = |x: f64| format!("{:+.1} %", 100.0 * x);
        let noise = format!("{:.1} %", 100.0 * change.noise);
        let cells = [place(change.row), percent(change.speed), percent(change.of_limit), noise];
        table.row(cells.into_iter().chain([change.verdict.to_string()]).collect());
    }
    table.text()
}

/// The table of kernels against the scalar reference.
pub fn kernels(rows: &[KernelRow]) -> String {
    let mut table = TextTable::new(&["operation", "kernel", "one thread", "spread", "times scalar"]);
    for row in rows {
        let unit = if row.unit == "bytes/s" { "GB/s" } else { "GOPS" };
        table.row(vec![
            row.operation.clone(),
            row.kernel.clone(),
            format!("{:.2} {unit}", 1e-9 * row.rate),
            format!("{:.1} %", 100.0 * row.spread),
            format!("{:.1}", row.speedup),
        ]);
    }
    table.text()
}

fn loads(rows: &[Row]) -> String {
    let mut table =
        TextTable::new(&["beside busy threads", "busy", "tokens/s", "fair share", "of fair share"]);
    for (row, load) in rows.iter().filter_map(|row| Some((row, row.load?))) {
        table.row(vec![
            place(row),
            load.busy.to_string(),
            format!("{:.2}", load.tokens_per_s),
            format!("{:.2}", load.fair_share),
            format!("{:.1} %", 100.0 * load.of_fair_share),
        ]);
    }
    table.text()
}

/// Where the time of a step goes, in every row.
fn breakdowns(rows: &[Row], model: &Row) -> String {
    let mut text = String::new();
    for row in rows
        .iter()
        .filter(|row| row.test == model.test && row.batch == model.batch && row.depth == model.depth)
    {
        let total: f64 = row.breakdown.iter().map(|s| s.seconds).sum();
        let mut table = TextTable::new(&[&place(row), "calls", "time", "of step", "bytes", "GB/s"]);
        for share in &row.breakdown {
            let reads = share.bytes > 0.0;
            table.row(vec![
                share.operation.clone(),
                format!("{:.0}", share.calls),
                format!("{:.3} ms", 1e3 * share.seconds),
                format!("{:.1} %", 100.0 * share.part),
                if reads { human::bytes(share.bytes as u64) } else { "-".to_owned() },
                if reads { format!("{:.1}", 1e-9 * share.bytes_per_s) } else { "-".to_owned() },
            ]);
        }
        text += &table.text();
        text += &terminal::fitted(format!(
            "step {:.2} ms with a clock at every operation; an empty step of the thread pool takes {:.1} us\n\n",
            1e3 * total,
            1e6 * row.empty_step_s
        ));
    }
    text.truncate(text.trim_end().len());
    text + "\n"
}

fn head(row: &Row) -> String {
    let mut pairs = Pairs::new();
    let setting = &row.setting;
    let synthetic = if setting.synthetic {
        " (random trits: says nothing of sparsity under squared ReLU or of peaked logits)"
    } else {
        ""
    };
    pairs.row("model", format_args!("{}{synthetic}", setting.model));
    pairs.row("kernel", &setting.kernel);
    pairs.row("cpu", &setting.cpu);
    let in_use =
        setting.huge_page_bytes.map_or(String::new(), |n| format!(", {} of this process", human::bytes(n)));
    pairs.row("huge pages", format_args!("{}{in_use}", setting.huge_pages));
    let memory = &row.memory;
    pairs.row("weights", human::bytes(memory.weights.max(memory.file)));
    let size = |n: Option<u64>| n.map_or("unknown".to_owned(), human::bytes);
    let above = memory.above.map_or(String::new(), |share| {
        let bytes = (share * memory.weights.max(memory.file) as f64) as u64;
        format!(", {} of it besides weights, keys and values", human::bytes(bytes))
    });
    pairs.row("peak memory", size(memory.peak) + &above);
    let joules = row.joules_per_token.map_or("not available".to_owned(), |j| format!("{j:.3} J per token"));
    pairs.row("energy", joules);
    let bytes = &row.bytes;
    let part = |n: f64| human::bytes(n as u64);
    pairs.row(
        "a token reads",
        format_args!(
            "{} of trits, {} of dense weights, {} of the head, {} of keys and values ({})",
            part(bytes.ternary),
            part(bytes.dense),
            part(bytes.head),
            part(bytes.kv),
            place(row)
        ),
    );
    pairs.text()
}

fn memory_bound(row: &Row) -> bool {
    row.limit_unit == "bytes/s"
}

/// `n` in the unit of the row's limit.
fn rate(row: &Row, n: f64) -> String {
    let unit = if memory_bound(row) { "GB/s" } else { "GOPS" };
    format!("{:.1} {unit}", 1e-9 * n)
}
