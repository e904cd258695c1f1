//! `revolve debug`.

use std::{
    fs::{File, OpenOptions},
    io::{self, Write as _},
    os::unix::fs::OpenOptionsExt as _,
    path::PathBuf,
};

use api::v1::CollectDebugRequest;
use clap::Subcommand;
use client::{Client, Error};
use flate2::{Compression, write::GzEncoder};
use serde::Serialize;
use sha2::{Digest as _, Sha256};

use super::text;
use crate::{
    app::App,
    doctor::{Examination, Node, Report},
    exit::{Exit, Failure, Outcome},
    nodes,
};

/// The folder inside the archive.
const FOLDER: &str = "revolve-debug";
/// Most bytes taken from one node.
const NODE_BYTES: usize = 64 << 20;

/// What can be collected.
#[derive(Debug, Subcommand)]
pub enum Verb {
    /// Figures, summaries, settings and log lines of every node that answers, without secrets, in one archive
    Bundle(BundleArgs),
}

/// Where to, and why.
#[derive(Debug, clap::Args)]
pub struct BundleArgs {
    /// The archive to make, a .tar.gz; an existing file is not touched
    #[arg(long, value_name = "FILE")]
    out: PathBuf,
    /// Why; it stands in the audit log
    #[arg(long, value_parser = text(), default_value = "debug bundle")]
    reason: String,
}

/// What is in the archive.
#[derive(Debug, Default, Serialize)]
#[serde(rename_all = "camelCase")]
struct Manifest {
    made_by: String,
    made_at: String,
    files: Vec<Entry>,
    missing: Vec<Missing>,
}

#[derive(Debug, Serialize)]
struct Entry {
    path: String,
    bytes: usize,
    sha256: String,
}

/// What could not be collected.
#[derive(Debug, Serialize)]
struct Missing {
    address: String,
    why: String,
}

/// Runs a verb.
pub async fn run(app: &App, verb: Verb) -> Outcome {
    let Verb::Bundle(args) = verb;
    let mut archive = Archive::create(&args.out)?;
    let made = bundle(app, &args.reason, &mut archive).await.and_then(|()| Ok(archive.finish(app)?));
    let manifest = match made {
        Ok(manifest) => manifest,
        Err(failure) => {
            // What was begun is of no use to anyone.
            std::fs::remove_file(&args.out)?;
            return Err(failure);
        }
    };
    let file = args.out.display();
    let text =
        format!("{file}: {} files, manifest.json lists them with their SHA-256\n", manifest.files.len());
    app.output.screen(&manifest, &text)?;
    for Missing { address, why } in &manifest.missing {
        app.output.note(&format!("not in it: `{address}`: {why}"));
    }
    Ok(if manifest.missing.is_empty() { Exit::Done } else { Exit::Attention })
}

async fn bundle(app: &App, reason: &str, archive: &mut Archive) -> Result<(), Failure> {
    let asked = nodes::ask_all(app).await?;
    for node in &asked {
        let collected = match &node.answer {
            Ok(it) => collect(&it.client, reason).await.map(|files| (it.cluster.node, files)),
            Err(error) => Err(Error::Failed { message: error.to_string() }),
        };
        match collected {
            Ok((id, files)) => {
                for (name, content) in files {
                    archive.add(&format!("node-{id}/{}", plain(&name)), content)?;
                }
            }
            Err(denied @ (Error::PermissionDenied(_) | Error::Refused(_))) => return Err(denied.into()),
            Err(error) => archive.missing(&node.address, error.to_string()),
        }
    }
    let nodes = asked.into_iter().map(Node::from);
    // The doctor's view of the cluster alone: what the status lists has names that people chose.
    let report = Report::of(&Examination { nodes: nodes.collect(), ..Examination::default() });
    archive.add("doctor.txt", report.screen().into_bytes())
}

/// The files of one node.
async fn collect(client: &Client, reason: &str) -> Result<Vec<(String, Vec<u8>)>, Error> {
    let request = CollectDebugRequest { reason: reason.to_owned() };
    let mut stream = client.collect_debug(request).await?;
    let (mut files, mut bytes): (Vec<(String, Vec<u8>)>, usize) = (Vec::new(), 0);
    let broken = |status: tonic::Status| Error::Failed { message: status.message().to_owned() };
    while let Some(message) = stream.message().await.map_err(broken)? {
        bytes += message.piece.len();
        if bytes > NODE_BYTES {
            return Err(Error::Failed { message: format!("it sends more than {NODE_BYTES} bytes") });
        }
        match files.last_mut() {
            Some((name, content)) if *name == message.file => content.extend(message.piece),
            _ => files.push((message.file, message.piece)),
        }
    }
    Ok(files)
}

/// A file name of a node, without anything that could lead out of its folder.
fn plain(name: &str) -> String {
    let allowed = |c: &char| c.is_ascii_alphanumeric() || ['.', '-', '_'].contains(c);
    name.chars().filter(allowed).collect::<String>().trim_start_matches('.').to_owned()
}

/// The archive as it grows.
struct Archive {
    tar: tar::Builder<GzEncoder<File>>,
    manifest: Manifest,
}

impl Archive {
    fn create(path: &std::path::Path) -> Result<Self, Failure> {
        let file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path);
        let file = file.map_err(|error| {
            Failure::usage(
                format!("`{}` cannot be made: {error}", path.display()),
                "name a file that does not exist",
            )
        })?;
        let tar = tar::Builder::new(GzEncoder::new(file, Compression::default()));
        Ok(Self { tar, manifest: Manifest::default() })
    }

    /// Adds a file. The nodes have taken secrets out; what they missed, or what an older node sends, is taken out here.
    fn add(&mut self, path: &str, content: Vec<u8>) -> Result<(), Failure> {
        let text = String::from_utf8_lossy(&content);
        let clean: Vec<String> = text.lines().map(server::logs::redacted).collect();
        let content = (clean.join("\n") + "\n").into_bytes();
        let sha256 = Sha256::digest(&content).iter().map(|byte| format!("{byte:02x}")).collect();
        self.manifest.files.push(Entry { path: path.to_owned(), bytes: content.len(), sha256 });
        Ok(self.write(path, &content)?)
    }

    fn missing(&mut self, address: &str, why: String) {
        self.manifest.missing.push(Missing { address: address.to_owned(), why });
    }

    fn finish(mut self, app: &App) -> io::Result<Manifest> {
        self.manifest.made_by = format!("revolve {}", env!("CARGO_PKG_VERSION"));
        self.manifest.made_at = app.output.now().to_string();
        let text = serde_json::to_string_pretty(&self.manifest)? + "\n";
        self.write("manifest.json", text.as_bytes())?;
        let mut file = self.tar.into_inner()?.finish()?;
        file.flush()?;
        file.sync_all()?;
        Ok(self.manifest)
    }

    fn write(&mut self, path: &str, content: &[u8]) -> io::Result<()> {
        let mut header = tar::Header::new_gnu();
        header.set_size(u64::try_from(content.len()).unwrap_or(u64::MAX));
        header.set_mode(0o600);
        self.tar.append_data(&mut header, format!("{FOLDER}/{path}"), content)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_of_a_node_stays_in_its_folder() {
        assert_eq!(plain("../../etc/passwd"), "etcpasswd");
        assert_eq!(plain("log.txt"), "log.txt");
        assert_eq!(plain("/absolute"), "absolute");
    }

    #[test]
    fn an_archive_that_exists_is_not_touched() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("bundle.tar.gz");
        std::fs::write(&path, "mine").unwrap();
        assert!(Archive::create(&path).is_err());
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "mine");
    }
}
