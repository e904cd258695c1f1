//! The keys: where they stand, and what to do next.

use api::v1;
use model::time::Time;
use serde::Serialize;

use super::some;
use crate::output::{Cell, Output, Show, Tone, when, when::When};

/// All keys.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Keys {
    data_keys: Vec<DataKey>,
    root_keys: Vec<RootKey>,
    nodes: Vec<u64>,
    /// What is left to do, in order; empty when nothing is.
    pub next: Vec<String>,
}

/// A data key.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct DataKey {
    id: u32,
    state: String,
    values: u64,
    root_key: Option<String>,
    created: When,
    since: When,
}

/// A root key.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct RootKey {
    id: String,
    state: String,
    holders: Vec<u64>,
    since: When,
}

impl From<&v1::GetKeyStatusResponse> for Keys {
    fn from(it: &v1::GetKeyStatusResponse) -> Self {
        let data_key = |it: &v1::DataKey| DataKey {
            id: it.id,
            state: it.state.clone(),
            values: it.values,
            root_key: some(&it.root_key),
            created: When(it.created_ms),
            since: When(it.since_ms),
        };
        let root_key = |it: &v1::RootKey| RootKey {
            id: it.id.clone(),
            state: it.state.clone(),
            holders: it.holders.clone(),
            since: When(it.since_ms),
        };
        let mut keys = Self {
            data_keys: it.data_keys.iter().map(data_key).collect(),
            root_keys: it.root_keys.iter().map(root_key).collect(),
            nodes: it.nodes.clone(),
            next: Vec::new(),
        };
        keys.next = keys.left_to_do();
        keys
    }
}

impl Keys {
    /// How many values are left under data key `id`; `None` once it is destroyed.
    pub fn retiring(&self, id: u32) -> Option<u64> {
        let key = self.data_keys.iter().find(|key| key.id == id && key.state != "destroyed");
        key.map(|key| key.values)
    }

    /// The screen of `key status`.
    pub fn screen(&self, output: &Output) -> String {
        let mut text = format!("{}\n{}", output.table(&self.data_keys), output.table(&self.root_keys));
        for next in &self.next {
            text.push_str(&format!("\nnext: {next}\n"));
        }
        text
    }

    fn left_to_do(&self) -> Vec<String> {
        let mut next = Vec::new();
        if let Some(old) = self.data_keys.iter().find(|key| key.state == "retiring") {
            next.push(format!(
                "{} values are still to be sealed anew before data key {} is destroyed; that goes on by itself",
                old.values, old.id
            ));
        }
        let root = |state: &str| self.root_keys.iter().find(|key| key.state == state);
        if let (Some(active), Some(leaving)) = (root("active"), root("leaving")) {
            let missing = self.missing(active);
            next.push(if missing.is_empty() {
                format!(
                    "revolve key finish root --reason …: root key {} is then not accepted any more",
                    leaving.id
                )
            } else {
                format!("bring root key {} to {missing}: it runs on the former one alone", active.id)
            });
        } else if let Some(held) = root("held") {
            let missing = self.missing(held);
            next.push(if missing.is_empty() {
                format!("revolve key rotate root --reason …: every node holds root key {}", held.id)
            } else {
                format!("bring root key {} to {missing}, as its `next_root_key_file`", held.id)
            });
        }
        for retired in self.root_keys.iter().filter(|key| key.state == "retired") {
            let nodes = named(retired.holders.iter().filter(|node| self.nodes.contains(node)));
            if !nodes.is_empty() {
                next.push(format!(
                    "on {nodes}, put the new root key in the place of {}, which is retired",
                    retired.id
                ));
            }
        }
        next
    }

    fn missing(&self, key: &RootKey) -> String {
        named(self.nodes.iter().filter(|node| !key.holders.contains(node)))
    }
}

fn named<'a>(nodes: impl Iterator<Item = &'a u64>) -> String {
    nodes.map(|node| format!("node-{node}")).collect::<Vec<_>>().join(", ")
}

fn state(text: &str) -> Cell {
    match text {
        "active" => Cell::toned(text, Tone::Good),
        "retiring" | "leaving" => Cell::toned(text, Tone::Warn),
        other => other.to_owned().into(),
    }
}

impl Show for DataKey {
    const HEADS: &'static [&'static str] = &["data key", "state", "values", "wrapped by", "since"];
    const WIDE: &'static [&'static str] = &["created"];

    fn name(&self) -> String {
        self.id.to_string()
    }

    fn cells(&self, now: Time) -> Vec<Cell> {
        vec![
            self.name().into(),
            state(&self.state),
            self.values.to_string().into(),
            self.root_key.clone().unwrap_or_default().into(),
            when::cell(self.since.0, now).into(),
        ]
    }

    fn wide(&self, now: Time) -> Vec<Cell> {
        vec![when::cell(self.created.0, now).into()]
    }
}

impl Show for RootKey {
    const HEADS: &'static [&'static str] = &["root key", "state", "held by", "since"];
    const WIDE: &'static [&'static str] = &[];

    fn name(&self) -> String {
        self.id.clone()
    }

    fn cells(&self, now: Time) -> Vec<Cell> {
        vec![
            self.name().into(),
            state(&self.state),
            named(self.holders.iter()).into(),
            when::cell(self.since.0, now).into(),
        ]
    }

    fn wide(&self, _now: Time) -> Vec<Cell> {
        Vec::new()
    }
}
