//! Rows as people read them.

use bitnet_benchmarks::Row;

use crate::human::{self, Pairs, Table};

/// One row in one line.
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
    let Some(first) = rows.first() else { return "nothing was measured\n".to_owned() };
    let mut text = head(first) + "\n";
    let mut table = Table::new(&[
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
    ]);
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
                format!("{:.2} GOP", 1e-9 * row.ops_per_token)
            },
            rate(row, row.rate),
            rate(row, row.limit),
            format!("{:.1} %", 100.0 * row.of_limit),
            if row.reliable { String::new() } else { "unreliable".to_owned() },
        ]);
    }
    text += &table.text();
    for row in rows {
        for note in &row.notes {
            text += &format!(
                "{}, threads {}, depth {}, batch {}: {note}\n",
                row.test, row.threads, row.depth, row.batch
            );
        }
    }
    text
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
        setting.huge_page_bytes.map_or(String::new(), |n| format!(", {} of this process", human::memory(n)));
    pairs.row("huge pages", format_args!("{}{in_use}", setting.huge_pages));
    let memory = &row.memory;
    pairs.row("weights", human::bytes(memory.weights.max(memory.file)));
    let size = |n: Option<u64>| n.map_or("unknown".to_owned(), human::bytes);
    let above = memory
        .above
        .map_or(String::new(), |a| format!(", {:.1} % of the weights above weights and KV", 100.0 * a));
    pairs.row("peak memory", size(memory.peak) + &above);
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
