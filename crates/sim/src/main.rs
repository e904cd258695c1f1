//! `cargo xtask sim`: many seeds on several threads, or one seed with its whole trace.
#![expect(clippy::print_stdout, reason = "a tool talks to its terminal")]

use std::{
    collections::BTreeMap,
    process::ExitCode,
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
        mpsc,
    },
    thread,
    time::{Duration, Instant},
};

use clap::Parser;
use sim::{Invariant, Report, Tally};

/// How often progress is told.
const PROGRESS_EVERY: Duration = Duration::from_secs(10);

/// Runs whole clusters in virtual time, one world for each seed, and holds them against their promises.
#[derive(Parser)]
#[command(name = "sim", bin_name = "cargo xtask sim")]
struct Options {
    /// How many seeds.
    #[arg(long, default_value_t = 300)]
    seeds: u64,
    /// The first seed.
    #[arg(long, default_value_t = 0)]
    from: u64,
    /// Threads; as many as there are processors by default.
    #[arg(long)]
    threads: Option<usize>,
    /// Print the whole trace of every world.
    #[arg(long)]
    trace: bool,
}

fn main() -> ExitCode {
    let options = Options::parse();
    let threads =
        options.threads.or_else(|| thread::available_parallelism().ok().map(Into::into)).unwrap_or(1);
    let (began, next) = (Instant::now(), AtomicU64::new(options.from));
    let end = options.from.saturating_add(options.seeds);
    let total = Mutex::new(Total::default());
    thread::scope(|scope| {
        let (reports, received) = mpsc::channel();
        for _ in 0..threads.max(1) {
            let (reports, next) = (reports.clone(), &next);
            scope.spawn(move || {
                loop {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= end || reports.send(sim::run(seed, options.trace)).is_err() {
                        return;
                    }
                }
            });
        }
        drop(reports);
        let mut told = Instant::now();
        for report in received {
            let mut total = total.lock().unwrap_or_else(PoisonError::into_inner);
            total.add(&report);
            show(&report, options.trace);
            if told.elapsed() >= PROGRESS_EVERY {
                told = Instant::now();
                println!("{} of {} seeds, {} broken", total.seeds, options.seeds, total.broken.len());
            }
        }
    });
    total.into_inner().unwrap_or_else(PoisonError::into_inner).summary(began.elapsed())
}

fn show(report: &Report, whole: bool) {
    if whole {
        report.trace.lines.iter().for_each(|line| println!("{line}"));
    }
    let Some(violation) = &report.violation else { return };
    println!("seed {}: `{}` is broken: {}", report.seed, violation.invariant, violation.detail);
    if !whole {
        println!("the last lines of its trace:");
        report.trace.lines.iter().for_each(|line| println!("  {line}"));
        println!("all of it: cargo xtask sim --seeds 1 --from {} --trace", report.seed);
    }
}

/// What all worlds came to.
#[derive(Default)]
struct Total {
    seeds: u64,
    five: u64,
    lines: u64,
    tally: Tally,
    broken: Vec<(u64, Invariant)>,
}

impl Total {
    fn add(&mut self, report: &Report) {
        self.seeds += 1;
        self.five += u64::from(report.nodes == 5);
        self.lines += report.trace.count;
        self.tally.commands += report.tally.commands;
        self.tally.effects += report.tally.effects;
        self.tally.messages += report.tally.messages;
        self.tally.lasted += report.tally.lasted;
        for (kind, count) in &report.tally.faults {
            *self.tally.faults.entry(kind).or_default() += count;
        }
        self.broken.extend(report.violation.iter().map(|violation| (report.seed, violation.invariant)));
    }

    #[expect(clippy::cast_precision_loss, reason = "a rate for people")]
    fn summary(mut self, took: Duration) -> ExitCode {
        let faults: u64 = self.tally.faults.values().sum();
        println!(
            "{} seeds ({} with five nodes, the others with three), {} events, {} commands committed, {} messages, {} \
             effects at the target, {} faults, {} virtual hours; {:.1} s, {:.1} seeds/s",
            self.seeds,
            self.five,
            self.lines,
            self.tally.commands,
            self.tally.messages,
            self.tally.effects,
            faults,
            self.tally.lasted.as_secs() / 3_600,
            took.as_secs_f64(),
            self.seeds as f64 / took.as_secs_f64(),
        );
        for (kind, count) in std::mem::take::<BTreeMap<_, _>>(&mut self.tally.faults) {
            println!("  {kind}: {count}");
        }
        self.broken.sort_unstable();
        if self.broken.is_empty() {
            println!("all {} promises held", Invariant::ALL.len());
            return ExitCode::SUCCESS;
        }
        for (seed, invariant) in &self.broken {
            println!(
                "seed {seed}: `{invariant}` is broken; replay: cargo xtask sim --seeds 1 --from {seed} --trace"
            );
        }
        ExitCode::FAILURE
    }
}
