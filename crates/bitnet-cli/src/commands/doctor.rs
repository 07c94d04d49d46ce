//! `bitnet doctor`: this machine, its kernels, its memory, and what looks wrong.

use std::fmt::Write;

use serde::Serialize;

use crate::{
    args::{COMMIT, DoctorArgs},
    failure::{Failure, Result},
    gates::{self, Shares},
    human::{self, Pairs, TextTable},
    machine::{self, Bandwidth, MachineMemory, Processor},
    terminal::{self, Style},
    tuning::{self, Finding},
};

/// Everything that is told, in the shape of the JSON.
#[derive(Serialize)]
struct Report {
    version: &'static str,
    /// The commit that this was built from, where it is known.
    commit: Option<&'static str>,
    /// Whether `train`, `finetune` and `twins` are built in.
    training: bool,
    cpu: Processor,
    kernels: Vec<KernelReport>,
    /// The kernel that a model would run on.
    chosen: Option<&'static str>,
    memory: MachineMemory,
    bandwidth: Vec<Bandwidth>,
    /// How models of the shapes that were run here run fastest, as was measured.
    tuning: Vec<Finding>,
    /// Shares of open gates, block by block, of the models that were run here.
    gates: Vec<Shares>,
    /// Sentences on what looks wrong; empty when nothing does.
    findings: Vec<String>,
}

#[derive(Serialize)]
struct KernelReport {
    name: &'static str,
    /// Whether the processor reports the instructions.
    supported: bool,
    /// Whether it does with them what the scalar reference does.
    self_test: Option<bool>,
}

pub fn run(args: &DoctorArgs) -> Result<()> {
    let cpu = Processor::detect();
    let memory = MachineMemory::detect();
    let kernels = kernels();
    let choice = bitnet_kernels::select(args.kernel.as_deref());
    // A kernel that was asked for by name and cannot be had is an error, not a finding.
    if let (Some(_), Err(error)) = (&args.kernel, &choice) {
        return Err(Failure::new(error).cure("leave --kernel out, or name one that `bitnet doctor` lists"));
    }
    let all = args.threads.map_or(cpu.usable, machine::threads);
    let mut bandwidth = vec![machine::measure(1, memory.free())];
    if all > 1 {
        bandwidth.push(machine::measure(all, memory.free()));
    }
    let mut findings = findings(&cpu, &memory, &kernels);
    let chosen = match choice {
        Ok(kernel) => Some(kernel.name()),
        Err(error) => {
            findings.insert(0, error.to_string());
            None
        }
    };
    let version = env!("CARGO_PKG_VERSION");
    let report = Report {
        version,
        commit: COMMIT,
        training: cfg!(feature = "training"),
        cpu,
        kernels,
        chosen,
        memory,
        bandwidth,
        tuning: tuning::all(),
        gates: gates::all(),
        findings,
    };
    if args.json {
        return terminal::print_json(&report);
    }
    terminal::print(&words(&report))
}

/// Every kernel of this build with the verdict on it.
fn kernels() -> Vec<KernelReport> {
    let verdict = |name| {
        let supported = bitnet_kernels::by_name(name).is_ok();
        // To select a kernel by name is to test it.
        KernelReport {
            name,
            supported,
            self_test: supported.then(|| bitnet_kernels::select(Some(name)).is_ok()),
        }
    };
    bitnet_kernels::all_names().map(verdict).collect()
}

fn findings(cpu: &Processor, memory: &MachineMemory, kernels: &[KernelReport]) -> Vec<String> {
    let mut found = Vec::new();
    for kernel in kernels.iter().filter(|k| k.self_test == Some(false)) {
        found.push(format!("{} computes wrongly on this machine and is not used: the machine claims instructions that it does not carry out", kernel.name));
    }
    if let Some(forced) = std::env::var(bitnet_kernels::KERNEL_VARIABLE).ok().filter(|v| !v.is_empty()) {
        found.push(format!("{} forces the kernel {forced}", bitnet_kernels::KERNEL_VARIABLE));
    }
    if let Some(best) =
        kernels.iter().find(|k| k.self_test == Some(true)).filter(|k| k.name.starts_with("generic"))
    {
        found.push(format!("only {} runs here, which is many times slower than a vector kernel", best.name));
    }
    if let Some(quota) = cpu.quota.filter(|&quota| quota < cpu.usable as f64) {
        let threads = (quota.floor() as usize).max(1);
        found.push(format!(
            "the control group allows {quota:.1} processors' time but shows {}: use --threads {threads}",
            cpu.usable
        ));
    }
    if let Some(load) = cpu.load.filter(|&load| load > cpu.usable as f64 * 0.75) {
        found.push(format!(
            "other work keeps the processors busy (load {load:.1} on {}): speeds will be lower and uneven",
            cpu.usable
        ));
    }
    if memory.huge_pages.transparent.as_deref() == Some("never") {
        found.push("transparent huge pages are off: as root, write madvise to /sys/kernel/mm/transparent_hugepage/enabled".into());
    }
    if let Some(free) = memory.free().filter(|&free| free < 1 << 30) {
        found.push(format!(
            "only {} of memory is free: a model of 2 billion weights takes about 1.3 GB",
            human::bytes(free)
        ));
    }
    if let Some(swap) = memory.swap_used.filter(|&swap| swap > 256 << 20) {
        found.push(format!(
            "{} lie in swap: a model that is swapped out writes very slowly",
            human::bytes(swap)
        ));
    }
    found
}

fn words(report: &Report) -> String {
    let heading = |text: &str| terminal::paint_output(Style::Heading, text);
    let mut text = String::new();
    let mut section = |title: &str, body: String| {
        let gap = if text.is_empty() { "" } else { "\n" };
        // Writing to a string cannot fail.
        let _ = write!(text, "{gap}{}\n{body}", heading(title));
    };
    section("This build", build(report));
    section("Processor", processor(&report.cpu));
    section("Kernels", kernel_table(report));
    section("Memory", memory_words(&report.memory));
    section("Reading memory", bandwidth_table(&report.bandwidth));
    section("Tuning", tuning_words(&report.tuning) + &gates_words(&report.gates));
    let findings = match report.findings.as_slice() {
        [] => "nothing\n".to_owned(),
        some => some.iter().map(|f| format!("- {f}\n")).collect(),
    };
    section("What looks wrong", findings);
    text
}

fn build(report: &Report) -> String {
    let mut pairs = Pairs::new();
    pairs.row("version", report.version);
    pairs.row("commit", report.commit.unwrap_or("unknown"));
    pairs.row("training", if report.training { "built in" } else { "not built in" });
    pairs.text()
}

fn processor(cpu: &Processor) -> String {
    let mut pairs = Pairs::new();
    pairs.row("name", format_args!("{} ({})", cpu.name, cpu.architecture));
    let mut processors = format!("{} usable", cpu.usable);
    if let Some(online) = cpu.online {
        processors += &format!(", {online} online");
    }
    if let Some(cores) = cpu.physical_cores {
        processors += &format!(", {cores} physical cores");
    }
    pairs.row("processors", processors);
    let quota = cpu.quota.map_or("none".into(), |q| format!("{q:.2} processors' time"));
    pairs.row("quota", quota);
    let names = |present| {
        let names: Vec<_> =
            cpu.instruction_sets.iter().filter(|isa| isa.present == present).map(|isa| isa.name).collect();
        if names.is_empty() { "none".to_owned() } else { names.join(" ") }
    };
    pairs.row("has", names(true));
    pairs.row("lacks", names(false));
    pairs.text()
}

fn kernel_table(report: &Report) -> String {
    let mut table = TextTable::new(&["name", "supported", "self-test", ""]);
    for kernel in &report.kernels {
        let test = match kernel.self_test {
            Some(true) => "passed",
            Some(false) => "FAILED",
            None => "-",
        };
        let supported = if kernel.supported { "yes" } else { "no" };
        let chosen = if report.chosen == Some(kernel.name) { "chosen" } else { "" };
        table.row([kernel.name, supported, test, chosen].map(str::to_owned).to_vec());
    }
    table.text()
}

fn memory_words(memory: &MachineMemory) -> String {
    let size = |n: Option<u64>| n.map_or("unknown".to_owned(), human::bytes);
    let mut pairs = Pairs::new();
    pairs.row("total", size(memory.total));
    pairs.row("available", size(memory.available));
    let limit = memory.limit.map(|limit| {
        let used =
            memory.used_of_limit.map_or(String::new(), |used| format!(", {} used", human::bytes(used)));
        human::bytes(limit) + &used
    });
    pairs.row("limit", limit.unwrap_or_else(|| "none".into()));
    let pages = &memory.huge_pages;
    let in_use = pages.in_use.map_or(String::new(), |n| format!(", {} in use", human::bytes(n)));
    pairs.row("huge pages", pages.transparent.clone().unwrap_or_else(|| "unknown".into()) + &in_use);
    pairs.text()
}

fn bandwidth_table(measured: &[Bandwidth]) -> String {
    let mut table = TextTable::new(&["threads", "best", "median", "buffer"]);
    for speed in measured {
        let rate = |bytes: f64| format!("{:.1} GB/s", bytes / 1e9);
        let buffer = human::bytes(speed.buffer_bytes as u64);
        table.row(vec![speed.threads.to_string(), rate(speed.best), rate(speed.median), buffer]);
    }
    table.text()
}

/// What squared ReLU leaves of the models that were run here.
fn gates_words(gates: &[Shares]) -> String {
    let words = |shares: &Shares| {
        let (low, high) = shares.range();
        format!(
            "{}\n  {:.0} to {:.0} % of the gates are open: {} of {} blocks leave out zeros\n",
            shares.model,
            100.0 * low,
            100.0 * high,
            shares.skipping(),
            shares.open.len()
        )
    };
    gates.iter().map(words).collect()
}

fn tuning_words(findings: &[Finding]) -> String {
    if findings.is_empty() {
        return "nothing yet: a model too large for the caches is measured when it is first run\n".to_owned();
    }
    let mut text = String::new();
    for finding in findings {
        // Writing to a string cannot fail.
        let _ = writeln!(text, "{}\n  on {}", finding.model, finding.machine);
        let _ = writeln!(
            text,
            "  measured on {} of its blocks in {}; results do not depend on it",
            finding.layers,
            human::seconds(finding.seconds)
        );
        let mut table = TextTable::new(&["  choice", "value", "tokens/s of the sample", ""]);
        for trial in &finding.trials {
            let chosen = if trial.chosen { "chosen" } else { "" };
            let speed = format!("{:.1}", trial.tokens_per_second);
            table.row(vec![format!("  {}", trial.knob), trial.value.clone(), speed, chosen.to_owned()]);
        }
        text += &table.text();
    }
    text
}
