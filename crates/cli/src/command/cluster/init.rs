//! `revolve cluster init`.

use std::path::PathBuf;

use server::init::{Alone, init_alone};

use super::place::Listening;
use crate::{
    app::App,
    exit::{Exit, Failure, Outcome},
    output,
};

/// The first node of a new cluster.
#[derive(Debug, clap::Args)]
pub struct Init {
    /// The folder to make its files in
    #[arg(long, value_name = "DIR")]
    dir: PathBuf,
    #[command(flatten)]
    listening: Listening,
}

/// Makes the files.
pub fn run(app: &App, it: &Init) -> Outcome {
    let alone = Alone {
        client: it.listening.listen_client,
        peer: it.listening.listen_peer,
        advertise: it.listening.client_address(),
        peer_address: it.listening.peer_address()?,
    };
    let made = init_alone(&it.dir, &alone).map_err(|error| Failure::from(anyhow::Error::new(error)))?;
    for path in made {
        output::write(&format!("{}\n", path.display()))?;
    }
    let dir = it.dir.display();
    let address = alone.advertise.unwrap_or_else(|| alone.client.to_string());
    app.output.note("keep root.key safe: without it nothing that the cluster holds can be opened");
    app.output.note(&format!("next: revolve server --config {dir}/node-1.toml"));
    app.output.note("and here, or where these files are brought to:");
    app.output.note(&format!("export REVOLVE_ADDR=https://{address} REVOLVE_TOKEN_FILE={dir}/admin.token"));
    app.output.note(&format!(
        "export REVOLVE_CACERT={dir}/ca.pem REVOLVE_CLIENT_CERT={dir}/admin.pem REVOLVE_CLIENT_KEY={dir}/admin.key"
    ));
    app.output
        .note("then let more nodes in: revolve cluster invite --reason …, and revolve cluster join there");
    Ok(Exit::Done)
}
