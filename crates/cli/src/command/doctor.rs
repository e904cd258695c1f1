//! `revolve doctor`.

use std::{io, path::PathBuf, time::Duration};

use api::v1::{GetKeyStatusRequest, GetStatusRequest};
use serde::Serialize;
use server::offline::Part;

use crate::{
    app::App,
    doctor::{Examination, Node, Report},
    exit::{Exit, Failure, Outcome},
    nodes,
};

/// How long the status may take: without a leader a node answers by itself after a while.
const PATIENCE: Duration = Duration::from_secs(6);

/// What is looked at.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Look at the data folder of a node that does not run, instead of asking the nodes
    #[arg(long, value_name = "DIR")]
    data: Option<PathBuf>,
}

/// A part of a data folder, as it is shown.
#[derive(Debug, Serialize)]
struct PartShown {
    part: &'static str,
    ok: bool,
    found: String,
}

/// Asks every node, or looks at one folder, and says what is wrong.
pub async fn run(app: &App, args: Args) -> Outcome {
    match args.data {
        Some(data) => folder(app, data).await,
        None => cluster(app).await,
    }
}

async fn folder(app: &App, data: PathBuf) -> Outcome {
    let named = data.display().to_string();
    let examined = tokio::task::spawn_blocking(move || server::offline::examine(&data)).await;
    let parts = match examined.map_err(anyhow::Error::from)? {
        Ok(parts) => parts,
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
            let next = "ask the nodes with `revolve doctor`, or stop this one first";
            return Err(Failure::refused(format!("a node uses `{named}`"), next));
        }
        Err(error) => {
            let next = "name the folder that `data` in the node's configuration names";
            return Err(Failure::usage(format!("`{named}` cannot be looked at: {error}"), next));
        }
    };
    let shown = |Part { name, found }: Part| {
        let ok = found.is_ok();
        PartShown { part: name, ok, found: found.unwrap_or_else(|problem| problem) }
    };
    let parts: Vec<PartShown> = parts.into_iter().map(shown).collect();
    let line = |part: &PartShown| {
        format!("{:<10}  {:<3}  {}\n", part.part, if part.ok { "ok" } else { "BAD" }, part.found)
    };
    let mut text: String = parts.iter().map(line).collect();
    let is_well = parts.iter().all(|part| part.ok);
    if !is_well {
        text.push_str("\nnext  start the node: with others at hand it mends itself, and says so in its log; keep a copy of the folder\n");
    }
    app.output.screen(&parts, &text)?;
    Ok(if is_well { Exit::Done } else { Exit::Attention })
}

async fn cluster(app: &App) -> Outcome {
    let asked = nodes::ask_all(app).await?;
    let (mut status, mut keys) = (None, None);
    for node in asked.iter().filter_map(|node| node.answer.as_ref().ok()) {
        let answer = tokio::time::timeout(PATIENCE, node.client.get_status(GetStatusRequest {})).await;
        if let Ok(Ok(answer)) = answer {
            status = Some(answer);
            // Not every role may see the keys: what follows from them is then not looked at.
            let answer =
                tokio::time::timeout(PATIENCE, node.client.get_key_status(GetKeyStatusRequest {})).await;
            keys = answer.ok().and_then(Result::ok);
            break;
        }
    }
    let nodes = asked.into_iter().map(Node::from);
    let report = Report::of(&Examination { nodes: nodes.collect(), status, keys });
    app.output.screen(&report, &report.screen())?;
    Ok(match report.answered {
        0 => Exit::Unreachable,
        _ if report.needs_attention() => Exit::Attention,
        _ => Exit::Done,
    })
}
