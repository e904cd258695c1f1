//! `revolve doctor`.

use std::time::Duration;

use api::v1::GetStatusRequest;

use crate::{
    app::App,
    doctor::{Examination, Node, Report},
    exit::{Exit, Outcome},
    nodes,
};

/// How long the status may take: without a leader a node answers by itself after a while.
const PATIENCE: Duration = Duration::from_secs(6);

/// Asks every node, and says what is wrong.
pub async fn run(app: &App) -> Outcome {
    let asked = nodes::ask_all(app).await?;
    let mut status = None;
    for node in asked.iter().filter(|node| node.answer.is_ok()) {
        let answer = tokio::time::timeout(PATIENCE, node.client.get_status(GetStatusRequest {})).await;
        if let Ok(Ok(answer)) = answer {
            status = Some(answer);
            break;
        }
    }
    let nodes = asked
        .into_iter()
        .map(|node| Node { address: node.address, answer: node.answer.map_err(|error| error.to_string()) });
    let report = Report::of(&Examination { nodes: nodes.collect(), status });
    app.output.screen(&report, &report.screen())?;
    Ok(match report.answered {
        0 => Exit::Unreachable,
        _ if report.needs_attention() => Exit::Attention,
        _ => Exit::Done,
    })
}
