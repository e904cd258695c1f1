//! Who asks: the `revolve` binary. Every command is `revolve <noun> <verb>`; data goes to stdout, everything else to
//! stderr, and the exit code says how it ended. It refuses secrets in flags and destruction without a clear yes.

#![allow(
    rustdoc::broken_intra_doc_links,
    reason = "comments on arguments are help texts, where brackets name variables"
)]

mod app;
mod command;
mod confirm;
mod dev;
mod doctor;
mod exit;
mod nodes;
mod output;
mod resource;
mod server;
mod settings;
mod show;
mod wait;

use std::process::ExitCode;

use clap::Parser;

use exit::Exit;

/// Made for many small pieces that are freed by another thread than took them, as entries and answers are.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    // One TLS provider for the whole process; a second one would be a bug in our own dependencies.
    if rustls::crypto::aws_lc_rs::default_provider().install_default().is_err() {
        output::complain("error: a TLS provider is installed already");
        return Exit::Failed.into();
    }
    let cli = match command::Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => return exit::from_clap(&error),
    };
    output::install_log(cli.log_filter().as_deref(), cli.flags.log_format());
    let runtime = match runtime() {
        Ok(runtime) => runtime,
        Err(error) => {
            output::complain(&format!("error: the runtime cannot start: {error}"));
            return Exit::Failed.into();
        }
    };
    let code = runtime.block_on(command::run(cli));
    // Nothing that is still in flight matters once the command has ended.
    runtime.shutdown_background();
    code
}

/// Half of the cores: the log, the state and sled are written by threads of their own, and a server that wakes one
/// thread instead of several for each message spends less on each. `TOKIO_WORKER_THREADS` says otherwise.
fn runtime() -> std::io::Result<tokio::runtime::Runtime> {
    let mut builder = tokio::runtime::Builder::new_multi_thread();
    if std::env::var_os("TOKIO_WORKER_THREADS").is_none() {
        let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
        builder.worker_threads((cores / 2).max(1));
    }
    builder.enable_all().build()
}
