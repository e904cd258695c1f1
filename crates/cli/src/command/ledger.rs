//! `revolve ledger`.

use std::{
    fs::File,
    io::{self, Write},
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
};

use anyhow::Context as _;
use api::v1::{GetLedgerRequest, WatchLedgerRequest};
use clap::{Args, Subcommand};
use model::ledger::LedgerHead;
use server::ledger_file::{self, Line};

use crate::{
    app::App,
    exit::{Exit, Failure, Outcome},
    output,
    show::Head,
};

/// What can be done with the ledger.
#[derive(Debug, Subcommand)]
pub enum Verb {
    /// Write the ledger to a file, one JSON object in each line; goes on where the file ends
    Export(Export),
    /// Check an exported ledger, or that in the data folder of a node; exit 1 when it is broken
    Verify {
        /// The file or folder
        path: PathBuf,
    },
    /// The end of the ledger
    Head,
}

#[derive(Debug, Args)]
pub struct Export {
    /// The file, or `-` for standard output
    #[arg(default_value = "-")]
    file: PathBuf,
    /// Go on as entries are committed
    #[arg(short, long)]
    follow: bool,
    /// After this entry; for a file that exists it is the last one in it
    #[arg(long, value_name = "SEQUENCE")]
    after: Option<u64>,
}

/// Runs a verb.
pub async fn run(app: &App, verb: Verb) -> Outcome {
    match verb {
        Verb::Export(args) => export(app, args).await,
        Verb::Verify { path } => verify(app, &path),
        Verb::Head => {
            let answer = app.client()?.get_ledger(GetLedgerRequest {}).await?;
            let head = Head::new(answer.sequence, &answer.hash, Some(answer.revision));
            app.output.screen(&head, &head.screen())?;
            Ok(Exit::Done)
        }
    }
}

async fn export(app: &App, args: Export) -> Outcome {
    let (mut sink, held) = Sink::open(&args.file)?;
    let mut last = held.filter(|head| args.after.is_none_or(|after| after == head.sequence));
    let after = args.after.or(held.map(|head| head.sequence)).unwrap_or_default();
    if held.is_some() && last.is_none() {
        return Err(Failure::refused(
            format!("`{}` does not end with entry {after}", args.file.display()),
            "leave `--after` out to go on where it ends",
        ));
    }
    let request = WatchLedgerRequest { after, follow: args.follow };
    let mut stream = app.client()?.watch_ledger(request).await?;
    loop {
        let message = stream.message().await;
        let Some(answer) = message.map_err(|status| anyhow::anyhow!("the ledger broke off: {status}"))?
        else {
            return Ok(Exit::Done);
        };
        let Some(entry) = answer.entry else { continue };
        let read = api::ledger::read(&entry).context("a malformed entry was sent")?;
        // What does not follow is not written: a file that was exported is always sound.
        match last {
            Some(last) => read.check_behind(last),
            None => read.check(),
        }
        .context("the cluster sent an entry that does not follow")?;
        last = Some(read.head());
        sink.line(&Line::from(entry))?;
    }
}

fn verify(app: &App, path: &Path) -> Outcome {
    let unreadable = || format!("`{}` cannot be read", path.display());
    let (head, problem) = last_sound(path).with_context(unreadable)?;
    let head = head.unwrap_or_default();
    let shown = Head::new(head.sequence, &head.hash, None);
    app.output.screen(&shown, &shown.screen())?;
    match problem {
        None => Ok(Exit::Done),
        Some(problem) => Err(Failure::failed(
            format!("the ledger is broken behind entry {}: {problem}", head.sequence),
            "what comes before is sound; take the rest from another copy",
        )),
    }
}

/// The last entry up to which the chain is sound, and what is wrong behind it.
fn last_sound(path: &Path) -> io::Result<(Option<LedgerHead>, Option<String>)> {
    let mut last: Option<LedgerHead> = None;
    for entry in ledger_file::read(path)? {
        let entry = match entry {
            Ok(entry) => entry,
            Err(error) => return Ok((last, Some(error.to_string()))),
        };
        let checked = last.map_or_else(|| entry.check(), |last| entry.check_behind(last));
        if let Err(broken) = checked {
            return Ok((last, Some(broken.to_string())));
        }
        last = Some(entry.head());
    }
    Ok((last, None))
}

/// Where lines go.
enum Sink {
    Standard,
    File(File),
}

impl Sink {
    /// Opens a file to go on behind its last entry, or makes it.
    fn open(path: &Path) -> Result<(Self, Option<LedgerHead>), Failure> {
        if path == Path::new("-") {
            return Ok((Self::Standard, None));
        }
        let unusable = || format!("`{}` cannot be used", path.display());
        let mut held = None;
        if path.exists() {
            // A line that was cut short by a crash is written again.
            output::cut_torn_line(path).with_context(unusable)?;
            let (head, problem) = last_sound(path).with_context(unusable)?;
            if let Some(problem) = problem {
                return Err(Failure::refused(
                    format!("`{}` is not a sound ledger: {problem}", path.display()),
                    "move it away, and export anew",
                ));
            }
            held = head;
        }
        let file = File::options().append(true).create(true).mode(0o600).open(path).with_context(unusable)?;
        Ok((Self::File(file), held))
    }

    fn line(&mut self, line: &Line) -> io::Result<()> {
        let text = format!("{}\n", serde_json::to_string(line)?);
        match self {
            Self::Standard => output::write(&text),
            Self::File(file) => file.write_all(text.as_bytes()).and_then(|()| file.sync_data()),
        }
    }
}
