//! What declaring resources changes: the diff and the next fire times.

use api::v1::{self, ChangeAction, ResourceKind};
use model::time::Time;
use serde::Serialize;
use similar::TextDiff;

use super::{Resource, some};
use crate::output::{self, Cell, Show, Tone, when, when::When};

/// Lines of context around a difference.
const CONTEXT: usize = 2;

/// One change.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Change {
    kind: &'static str,
    name: String,
    action: &'static str,
    secret_changed: bool,
    before: Option<Resource>,
    after: Option<Resource>,
    next: Vec<Fire>,
}

/// An instant at which a schedule fires.
#[derive(Debug, Serialize)]
pub struct Fire {
    at: When,
    local: String,
    note: Option<String>,
}

impl From<&v1::FireTime> for Fire {
    fn from(it: &v1::FireTime) -> Self {
        Self { at: When(it.at_ms), local: it.local.clone(), note: some(&it.note) }
    }
}

impl From<&model::timing::Fire> for Fire {
    fn from(it: &model::timing::Fire) -> Self {
        Self { at: When(it.at.0), local: it.local.clone(), note: it.note.map(Into::into) }
    }
}

impl Show for Fire {
    const HEADS: &'static [&'static str] = &["local", "utc", "note"];

    fn name(&self) -> String {
        when::seconds(Time(self.at.0))
    }

    fn cells(&self, now: Time) -> Vec<Cell> {
        let note = self.note.clone().unwrap_or_default();
        vec![self.local.clone().into(), when::cell(self.at.0, now).into(), Cell::toned(note, Tone::Warn)]
    }
}

impl From<&v1::ResourceChange> for Change {
    fn from(it: &v1::ResourceChange) -> Self {
        let declared =
            |it: &Option<v1::Resource>| it.as_ref().and_then(Resource::new).map(Resource::declared);
        Self {
            kind: noun(it.kind()),
            name: it.name.clone(),
            action: match it.action() {
                ChangeAction::Created => "created",
                ChangeAction::Changed => "changed",
                ChangeAction::Unchanged => "unchanged",
                ChangeAction::Unspecified => "unknown",
            },
            secret_changed: it.secret_changed,
            before: declared(&it.before),
            after: declared(&it.after),
            next: it.next.iter().map(Into::into).collect(),
        }
    }
}

impl Change {
    /// Whether anything would be different.
    pub fn is_change(&self) -> bool {
        self.action != "unchanged"
    }

    /// The difference, and the next fire times.
    pub fn diff(&self, now: Time) -> std::io::Result<String> {
        let sign = match self.action {
            "created" => '+',
            "unchanged" => '=',
            _ => '~',
        };
        let mut text = format!("{sign} {}/{}  {}\n", self.kind, self.name, self.action);
        if self.is_change() {
            let (before, after) = (document(self.before.as_ref())?, document(self.after.as_ref())?);
            let diff = TextDiff::from_lines(&before, &after);
            for line in diff.unified_diff().context_radius(CONTEXT).to_string().lines() {
                if !line.starts_with("@@") {
                    text.push_str(&format!("    {line}\n"));
                }
            }
        }
        if self.secret_changed {
            text.push_str("    (a secret is part of it)\n");
        }
        if !self.next.is_empty() {
            text.push_str("    fires next\n");
        }
        for fire in &self.next {
            let note = fire.note.as_ref().map(|note| format!("  {note}")).unwrap_or_default();
            text.push_str(&format!("      {}  {}{note}\n", fire.local, when::cell(fire.at.0, now)));
        }
        Ok(text)
    }
}

impl Show for Change {
    const HEADS: &'static [&'static str] = &["kind", "name", "action"];

    fn name(&self) -> String {
        format!("{}/{}", self.kind, self.name)
    }

    fn cells(&self, _now: Time) -> Vec<Cell> {
        let tone = if self.is_change() { Tone::Good } else { Tone::Plain };
        vec![self.kind.into(), self.name.clone().into(), Cell::toned(self.action, tone)]
    }
}

fn document(resource: Option<&Resource>) -> std::io::Result<String> {
    resource.map_or_else(|| Ok(String::new()), output::yaml)
}

const fn noun(kind: ResourceKind) -> &'static str {
    match kind {
        ResourceKind::Unspecified => "resource",
        ResourceKind::Identity => "identity",
        ResourceKind::Target => "target",
        ResourceKind::Store => "store",
        ResourceKind::Credential => "credential",
        ResourceKind::Schedule => "schedule",
        ResourceKind::Consumer => "consumer",
    }
}
