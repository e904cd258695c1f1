//! What is wrong with a cluster and with what it keeps, why it matters, and what to do next. Pure: from the answers of
//! the nodes to a report.

mod checks;
#[cfg(test)]
mod tests;

use api::v1::{GetClusterResponse, GetKeyStatusResponse, GetStatusResponse, Member};
use serde::Serialize;

use crate::nodes::Asked;

/// What the nodes have said.
#[derive(Debug, Default)]
pub struct Examination {
    /// Every node that was asked.
    pub nodes: Vec<Node>,
    /// What needs attention, from the first node that said so.
    pub status: Option<GetStatusResponse>,
    /// Which keys there are and who holds them, from the same node.
    pub keys: Option<GetKeyStatusResponse>,
}

/// A node that was asked.
#[derive(Debug)]
pub struct Node {
    /// Where.
    pub address: String,
    /// How it sees the cluster, or why it did not say.
    pub answer: Result<GetClusterResponse, String>,
}

impl From<Asked> for Node {
    fn from(asked: Asked) -> Self {
        let answer = asked.answer.map(|answered| answered.cluster).map_err(|error| error.to_string());
        Self { address: asked.address, answer }
    }
}

impl Examination {
    /// The answers there are.
    fn answers(&self) -> impl Iterator<Item = &GetClusterResponse> {
        self.nodes.iter().filter_map(|node| node.answer.as_ref().ok())
    }

    /// The leader that the nodes speak of, when they agree.
    fn leader(&self) -> Option<u64> {
        let mut leaders = self.answers().map(|answer| answer.leader).filter(|leader| *leader != 0);
        let first = leaders.next()?;
        leaders.all(|leader| leader == first).then_some(first)
    }

    /// The members, as the leader sees them, or else whoever answers.
    fn members(&self) -> &[Member] {
        let leader = self.answers().find(|answer| answer.leader == answer.node);
        leader.or_else(|| self.answers().next()).map_or(&[], |answer| &answer.members)
    }

    /// Whether a node has answered, or the leader hears it.
    fn is_up(&self, member: &Member) -> bool {
        let answers = self.answers().any(|answer| answer.node == member.id);
        answers || (self.leader().is_some() && member.reachable)
    }
}

/// How bad it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// Promises are broken, or will be at the next fault.
    Critical,
    /// Someone must act.
    Warning,
    /// Worth knowing.
    Notice,
}

impl Severity {
    const fn as_str(self) -> &'static str {
        match self {
            Self::Critical => "CRITICAL",
            Self::Warning => "warning",
            Self::Notice => "notice",
        }
    }
}

/// One thing that is not as it should be.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// How bad it is.
    pub severity: Severity,
    /// Which check has found it; stable.
    pub check: &'static str,
    /// What is so.
    pub what: String,
    /// Why it matters.
    pub why: &'static str,
    /// What to do next.
    pub next: String,
}

/// What was found, the worst first.
#[derive(Debug, Serialize)]
pub struct Report {
    /// How many nodes have answered.
    pub answered: usize,
    /// How many were asked.
    pub asked: usize,
    /// Who leads.
    pub leader: Option<u64>,
    /// What was looked for.
    pub checks: Vec<&'static str>,
    /// What was found.
    pub findings: Vec<Finding>,
}

impl Report {
    /// Looks at everything.
    pub fn of(seen: &Examination) -> Self {
        let mut findings: Vec<Finding> = checks::CHECKS
            .iter()
            .flat_map(|(name, check)| check(seen).into_iter().map(|it| it.of(name)))
            .collect();
        findings.sort_by_key(|finding| finding.severity);
        Self {
            answered: seen.answers().count(),
            asked: seen.nodes.len(),
            leader: seen.leader(),
            checks: checks::CHECKS.iter().map(|(name, _)| *name).collect(),
            findings,
        }
    }

    /// Whether someone must act.
    pub fn needs_attention(&self) -> bool {
        self.findings.iter().any(|finding| finding.severity < Severity::Notice)
    }

    /// The one screen.
    pub fn screen(&self) -> String {
        let leader = self.leader.map_or_else(|| "NONE".to_owned(), |id| format!("node-{id}"));
        let mut text = format!(
            "{} of {} nodes answer, leader {leader}, {} checks made\n",
            self.answered,
            self.asked,
            self.checks.len()
        );
        for finding in &self.findings {
            text.push_str(&format!(
                "\n{:<8}  {} [{}]\n    why   {}\n    next  {}\n",
                finding.severity.as_str(),
                finding.what,
                finding.check,
                finding.why,
                finding.next
            ));
        }
        if self.findings.is_empty() {
            text.push_str("\nnothing is wrong\n");
        }
        text
    }
}
