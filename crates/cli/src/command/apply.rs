//! `revolve apply` and `revolve plan`.

use std::path::PathBuf;

use api::v1::ApplyRequest;

use crate::{
    app::App,
    exit::{Exit, Outcome},
    resource::source,
    show::Change,
};

/// What to declare.
#[derive(Debug, clap::Args)]
pub struct ApplyArgs {
    /// YAML file, folder with all that is below it, or - for stdin
    #[arg(short = 'f', long = "file", value_name = "FILE", required = true)]
    files: Vec<PathBuf>,
    /// Change nothing; as `plan`
    #[arg(long)]
    dry_run: bool,
}

/// What to try.
#[derive(Debug, clap::Args)]
pub struct PlanArgs {
    /// YAML file, folder with all that is below it, or - for stdin
    #[arg(short = 'f', long = "file", value_name = "FILE", required = true)]
    files: Vec<PathBuf>,
}

/// Declares resources.
pub async fn run(app: &App, args: ApplyArgs) -> Outcome {
    if args.dry_run {
        return plan(app, PlanArgs { files: args.files }).await;
    }
    let changes = send(app, &args.files, false).await?;
    app.output.list(&changes)?;
    Ok(Exit::Done)
}

/// Shows what declaring would change; exit 2 when it would change anything.
pub async fn plan(app: &App, args: PlanArgs) -> Outcome {
    let changes = send(app, &args.files, true).await?;
    let mut text = String::new();
    for change in &changes {
        text.push_str(&change.diff(app.output.now())?);
    }
    let different = changes.iter().filter(|change| change.is_change()).count();
    text.push_str(&format!("{different} of {} would change\n", changes.len()));
    app.output.screen(&changes, &text)?;
    Ok(if different > 0 { Exit::Attention } else { Exit::Done })
}

async fn send(app: &App, files: &[PathBuf], dry_run: bool) -> Result<Vec<Change>, crate::exit::Failure> {
    let resources = source::read_all(files)?;
    let answer = app.client()?.apply(ApplyRequest { resources, dry_run }).await?;
    Ok(answer.changes.iter().map(Change::from).collect())
}
