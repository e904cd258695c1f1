//! list, get and remove: the same for every kind of resource.

use api::v1::{GetResourceRequest, ListResourcesRequest, RemoveResourceRequest};
use clap::Subcommand;
use client::Error;

use super::text;
use crate::{
    app::App,
    confirm::confirm,
    exit::{Exit, Outcome},
    resource::Kind,
    show::Resource,
};

/// What can be done with every kind.
#[derive(Debug, Subcommand)]
pub enum Verb {
    /// All of them
    List,
    /// One of them, as YAML that can be applied again
    Get {
        /// Its name
        #[arg(value_parser = text())]
        name: String,
    },
    /// Remove one that nothing depends on
    Remove {
        /// Its name
        #[arg(value_parser = text())]
        name: String,
        /// Do not ask
        #[arg(long)]
        yes: bool,
    },
}

/// Runs a verb for resources of `kind`.
pub async fn run(app: &App, kind: Kind, verb: Verb) -> Outcome {
    let client = app.client()?;
    match verb {
        Verb::List => {
            let mut found = Vec::new();
            let mut page_token = String::new();
            loop {
                let request = ListResourcesRequest { kind: kind.wire().into(), page_size: 0, page_token };
                let page = client.list_resources(request).await?;
                found.extend(page.resources.iter().filter_map(Resource::new));
                page_token = page.next_page_token;
                if page_token.is_empty() {
                    break;
                }
            }
            app.output.list(&found)?;
        }
        Verb::Get { name } => {
            let request = GetResourceRequest { kind: kind.wire().into(), name };
            let resource = client.get_resource(request).await?.resource;
            let resource = resource.as_ref().and_then(Resource::new).ok_or_else(unknown_answer)?;
            app.output.item(&resource)?;
        }
        Verb::Remove { name, yes } => {
            let noun = kind.noun();
            confirm(&app.output, yes, &format!("this removes {noun} `{name}`"), &name)?;
            client
                .remove_resource(RemoveResourceRequest { kind: kind.wire().into(), name: name.clone() })
                .await?;
            app.output.note(&format!("{noun} `{name}` is removed"));
        }
    }
    Ok(Exit::Done)
}

/// The server answered in a way this version does not know.
pub fn unknown_answer() -> Error {
    Error::Failed { message: "the answer is empty or of a newer version".to_owned() }
}
