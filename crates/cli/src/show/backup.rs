//! Backups, what was put back from one, and the end of a ledger.

use std::path::Path;

use model::time::Time;
use serde::Serialize;
use server::{backup::About, restore::Done};

use super::hex;
use crate::output::when::{self, When};

/// What a backup says of itself.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Backup {
    file: String,
    cluster: String,
    created_at: When,
    applied: u64,
    revision: u64,
    ledger_entry: u64,
    ledger_hash: String,
    data_key: Option<u32>,
    digest: String,
    records: u64,
    /// Whether every chunk was opened with the root key, and the state compared with its digest.
    opened: bool,
}

impl Backup {
    /// What `about` says of `file`.
    pub fn new(file: &Path, about: &About, opened: bool) -> Self {
        Self {
            file: file.display().to_string(),
            cluster: about.cluster.clone(),
            created_at: When(about.created_at.0),
            applied: about.applied,
            revision: about.revision,
            ledger_entry: about.ledger.sequence,
            ledger_hash: hex(&about.ledger.hash),
            data_key: about.data_key,
            digest: hex(&about.digest),
            records: about.records,
            opened,
        }
    }

    /// The screen.
    pub fn screen(&self) -> String {
        let checked =
            if self.opened { "opened, whole and as its header says" } else { "checksum right; not opened" };
        format!(
            "backup    {}\ncluster   {}\ncreated   {}\napplied   {}\nrevision  {}\nledger    entry {} {}\ndata key  {}\nrecords   {}\nchecked   {checked}\n",
            self.file,
            self.cluster,
            when::seconds(Time(self.created_at.0)),
            self.applied,
            self.revision,
            self.ledger_entry,
            self.ledger_hash,
            self.data_key.map_or_else(|| "none".to_owned(), |id| id.to_string()),
            self.records,
        )
    }
}

/// What was put back.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Put {
    data: String,
    backup_at: When,
    ledger: Option<String>,
    entries: u64,
    told_by_consumers: u64,
    revision: u64,
    loss_accepted: bool,
    lost_secrets: Vec<String>,
    to_retire: Vec<String>,
    unproven: Vec<String>,
    temporary_users: Vec<String>,
}

impl Put {
    /// What `done` has led to, in the folder `data`.
    pub fn new(done: &Done, data: &Path) -> Self {
        let versions = |list: &[(model::name::CredentialName, u32)]| {
            list.iter().map(|(name, version)| format!("{name}@{version}")).collect()
        };
        Self {
            data: data.display().to_string(),
            backup_at: When(done.about.created_at.0),
            ledger: done.ledger.as_ref().map(|path| path.display().to_string()),
            entries: done.summary.entries,
            told_by_consumers: done.summary.told,
            revision: done.revision,
            loss_accepted: done.loss_accepted,
            lost_secrets: versions(&done.summary.lost),
            to_retire: versions(&done.summary.to_retire),
            unproven: versions(&done.summary.unproven),
            temporary_users: done.summary.temporary_users.clone(),
        }
    }

    /// The screen.
    pub fn screen(&self) -> String {
        let ledger = self.ledger.as_deref().unwrap_or("NONE: what was stated since the backup may be lost");
        let mut text = format!(
            "data      {}\nbackup of {}\nledger    {ledger}\nentries   {} carried out\nrevision  {}\n",
            self.data,
            when::seconds(Time(self.backup_at.0)),
            self.entries,
            self.revision,
        );
        if self.told_by_consumers > 0 {
            text.push_str(&format!(
                "consumers {} events behind the ledger's end carried out; they know nothing of tokens and of what was removed\n",
                self.told_by_consumers
            ));
        }
        let lists = [
            ("secret not in the backup, to be rotated", &self.lost_secrets),
            ("retired again once confirmed", &self.to_retire),
            ("ended, never proven dead, and not in the backup", &self.unproven),
            ("temporary users that end by themselves", &self.temporary_users),
        ];
        for (head, list) in lists.into_iter().filter(|(_, list)| !list.is_empty()) {
            let shown = list.iter().take(20).cloned().collect::<Vec<_>>().join(", ");
            let more = if list.len() > 20 { ", …" } else { "" };
            text.push_str(&format!("\n{head} ({}): {shown}{more}\n", list.len()));
        }
        text
    }
}

/// The end of a ledger.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Head {
    sequence: u64,
    hash: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    revision: Option<u64>,
}

impl Head {
    /// The entry with this number and hash is the last.
    pub fn new(sequence: u64, hash: &[u8], revision: Option<u64>) -> Self {
        Self { sequence, hash: hex(hash), revision }
    }

    /// The screen.
    pub fn screen(&self) -> String {
        let revision = self.revision.map(|revision| format!("revision  {revision}\n")).unwrap_or_default();
        format!("entry     {}\nhash      {}\n{revision}", self.sequence, self.hash)
    }
}
