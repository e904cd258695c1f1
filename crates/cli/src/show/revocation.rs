//! Revocations, and who has acted on them.

use std::fmt::Write as _;

use api::v1;
use model::time::Time;
use serde::Serialize;

use super::some;
use crate::output::{Cell, Output, Show, Tone, when, when::When};

/// A revocation.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Revocation {
    id: String,
    subject: String,
    reason_code: String,
    reason: String,
    by: String,
    at: When,
    revisions: Vec<u64>,
    lifted: When,
    lifted_by: Option<String>,
    acked: bool,
}

impl From<&v1::Revocation> for Revocation {
    fn from(it: &v1::Revocation) -> Self {
        Self {
            id: it.id.clone(),
            subject: it.subject.clone(),
            reason_code: it.reason_code.clone(),
            reason: it.reason.clone(),
            by: it.by.clone(),
            at: When(it.at_ms),
            revisions: it.revisions.clone(),
            lifted: When(it.lifted_ms),
            lifted_by: some(&it.lifted_by),
            acked: it.acked,
        }
    }
}

impl Show for Revocation {
    const HEADS: &'static [&'static str] = &["id", "subject", "reason code", "at", "by", "acked", "lifted"];
    const WIDE: &'static [&'static str] = &["revisions", "reason"];

    fn name(&self) -> String {
        self.id.clone()
    }

    fn cells(&self, now: Time) -> Vec<Cell> {
        vec![
            self.id.clone().into(),
            self.subject.clone().into(),
            self.reason_code.clone().into(),
            when::cell(self.at.0, now).into(),
            self.by.clone().into(),
            if self.acked { Cell::toned("yes", Tone::Good) } else { Cell::toned("no", Tone::Warn) },
            when::cell(self.lifted.0, now).into(),
        ]
    }

    fn wide(&self, _now: Time) -> Vec<Cell> {
        vec![joined(&self.revisions).into(), self.reason.clone().into()]
    }
}

/// What was made: its id and its entries in the feed.
#[derive(Debug, Serialize)]
pub struct Created {
    pub id: String,
    pub revisions: Vec<u64>,
}

impl Show for Created {
    const HEADS: &'static [&'static str] = &["id", "revisions"];

    fn name(&self) -> String {
        self.id.clone()
    }

    fn cells(&self, _now: Time) -> Vec<Cell> {
        vec![self.id.clone().into(), joined(&self.revisions).into()]
    }
}

/// A revocation with the standing of every consumer and what was seen at the target.
#[derive(Debug, Serialize)]
pub struct RevocationStatus {
    #[serde(flatten)]
    revocation: Revocation,
    receipts: Vec<Receipt>,
    evidence: Vec<Evidence>,
}

impl From<&v1::GetRevocationResponse> for RevocationStatus {
    fn from(it: &v1::GetRevocationResponse) -> Self {
        Self {
            revocation: (&it.revocation.clone().unwrap_or_default()).into(),
            receipts: it.receipts.iter().map(Into::into).collect(),
            evidence: it.evidence.iter().map(Into::into).collect(),
        }
    }
}

impl RevocationStatus {
    /// Whether no required consumer has anything outstanding.
    pub const fn is_acked(&self) -> bool {
        self.revocation.acked
    }

    /// How it stands, in a line.
    pub fn standing(&self) -> String {
        let open = |receipt: &&Receipt| receipt.required && !matches!(receipt.state, "ok" | "waived");
        let open: Vec<_> = self.receipts.iter().filter(open).map(Receipt::brief).collect();
        if open.is_empty() {
            return format!("{}: all required consumers have answered", self.revocation.id);
        }
        format!("{}: outstanding: {}", self.revocation.id, open.join(", "))
    }

    /// The screen of `revocation status`.
    pub fn screen(&self, output: &Output) -> String {
        let it = &self.revocation;
        let mut text = format!(
            "{}  {}  {}  {}\nby {} {}: {}\n\n",
            it.id,
            it.subject,
            it.reason_code,
            if it.acked { "acknowledged" } else { "acks outstanding" },
            it.by,
            when::cell(it.at.0, output.now()),
            it.reason,
        );
        if self.receipts.is_empty() {
            text.push_str("no consumer is concerned\n");
        } else {
            text.push_str(&output.table(&self.receipts));
        }
        for evidence in &self.evidence {
            let seen = match evidence.refused.0 {
                0 => "no login was seen to be refused yet".to_owned(),
                at => format!("login refused {}", when::cell(at, output.now())),
            };
            // Writing to a string does not fail.
            let _ = write!(text, "\nevidence  {}  {}  {seen}", evidence.subject, evidence.state);
        }
        if !self.evidence.is_empty() {
            text.push('\n');
        }
        text
    }
}

/// How one consumer stands to one event.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Receipt {
    consumer: String,
    revision: u64,
    required: bool,
    delivered: bool,
    received: bool,
    enforced: bool,
    state: &'static str,
    failed: Option<String>,
    deadline: When,
}

impl From<&v1::ReceiptStanding> for Receipt {
    fn from(it: &v1::ReceiptStanding) -> Self {
        Self {
            consumer: it.consumer.clone(),
            revision: it.revision,
            required: it.required,
            delivered: it.delivered,
            received: it.received,
            enforced: it.enforced,
            state: state(it),
            failed: some(&it.failed),
            deadline: When(it.deadline_ms),
        }
    }
}

impl Receipt {
    fn brief(&self) -> String {
        format!("{} ({} {})", self.consumer, self.revision, self.state)
    }
}

fn state(it: &v1::ReceiptStanding) -> &'static str {
    match it {
        _ if it.waived => "waived",
        _ if it.enforced => "ok",
        _ if !it.failed.is_empty() => "failed",
        _ if it.overdue => "overdue",
        _ => "waiting",
    }
}

impl Show for Receipt {
    const HEADS: &'static [&'static str] =
        &["consumer", "revision", "required", "delivered", "received", "enforced", "state", "deadline"];

    fn name(&self) -> String {
        self.consumer.clone()
    }

    fn cells(&self, now: Time) -> Vec<Cell> {
        let yes = |yes: bool| Cell::from(if yes { "yes" } else { "no" });
        let tone = match self.state {
            "ok" | "waived" => Tone::Good,
            "waiting" => Tone::Warn,
            _ => Tone::Bad,
        };
        let state = match &self.failed {
            Some(detail) if self.state == "failed" => format!("failed: {detail}"),
            Some(_) | None => self.state.to_owned(),
        };
        vec![
            self.consumer.clone().into(),
            self.revision.to_string().into(),
            yes(self.required),
            yes(self.delivered),
            yes(self.received),
            yes(self.enforced),
            Cell::toned(state, tone),
            when::cell(self.deadline.0, now).into(),
        ]
    }
}

/// What was seen at the target.
#[derive(Debug, Serialize)]
struct Evidence {
    subject: String,
    state: String,
    refused: When,
}

impl From<&v1::Evidence> for Evidence {
    fn from(it: &v1::Evidence) -> Self {
        Self { subject: it.subject.clone(), state: it.state.clone(), refused: When(it.refused_ms) }
    }
}

fn joined(revisions: &[u64]) -> String {
    let revisions: Vec<_> = revisions.iter().map(u64::to_string).collect();
    revisions.join(", ")
}
