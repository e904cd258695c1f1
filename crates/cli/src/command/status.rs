//! `revolve status`.

use api::v1::GetStatusRequest;

use crate::{
    app::App,
    exit::{Exit, Outcome},
    show::Status,
};

/// Shows what needs attention.
pub async fn run(app: &App) -> Outcome {
    let status = Status::from(&app.client()?.get_status(GetStatusRequest {}).await?);
    app.output.screen(&status, &status.screen(&app.output))?;
    Ok(match (status.has_leader(), status.needs_attention()) {
        (false, _) => Exit::Unreachable,
        (true, true) => Exit::Attention,
        (true, false) => Exit::Done,
    })
}
