//! How a command ends: exit codes, and failures with what to do next.

use std::{io, process::ExitCode};

use client::{CertificateProblem, OptionsError};
use server::{
    config::ConfigError,
    node::{ServerError, StartError},
};

use crate::output;

/// The exit codes; docs/reference/cli.md lists them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exit {
    /// It is done.
    Done = 0,
    /// It failed.
    Failed = 1,
    /// It is done, and something needs attention.
    Attention = 2,
    /// No leader, or nobody to reach.
    Unreachable = 3,
    /// Not authenticated, or not authorised.
    Denied = 4,
    /// Refused: precondition, policy, conflict.
    Refused = 5,
    /// A node has stopped to protect what is stored; starting it again needs a person.
    Protected = 6,
    /// The command makes no sense as written.
    Usage = 64,
    /// Waiting took too long; the work goes on.
    TimedOut = 124,
    /// Interrupted by Ctrl-C.
    Interrupted = 130,
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit as u8)
    }
}

/// How a command ended.
pub type Outcome = Result<Exit, Failure>;

/// Why a command did not do what was asked.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    /// The cluster, or the way to it.
    #[error(transparent)]
    Client(#[from] client::Error),
    /// Said by the command itself.
    #[error("{message}")]
    Said {
        /// How the process ends.
        exit: Exit,
        /// What is wrong.
        message: String,
        /// What to do next; may be empty.
        next: String,
    },
    /// Writing the output failed.
    #[error("the output cannot be written")]
    Output(#[from] io::Error),
    /// Anything else.
    #[error(transparent)]
    Other(#[from] anyhow::Error),
}

impl Failure {
    /// The command makes no sense as written.
    pub fn usage(message: impl Into<String>, next: impl Into<String>) -> Self {
        Self::Said { exit: Exit::Usage, message: message.into(), next: next.into() }
    }

    /// A rule forbids it.
    pub fn refused(message: impl Into<String>, next: impl Into<String>) -> Self {
        Self::Said { exit: Exit::Refused, message: message.into(), next: next.into() }
    }

    /// It went wrong.
    pub fn failed(message: impl Into<String>, next: impl Into<String>) -> Self {
        Self::Said { exit: Exit::Failed, message: message.into(), next: next.into() }
    }

    /// Says what is wrong and what to do next, on stderr, and gives the exit code.
    pub fn report(&self) -> Exit {
        if let Self::Output(error) = self
            && error.kind() == io::ErrorKind::BrokenPipe
        {
            return Exit::Done;
        }
        let code = match self {
            Self::Client(error) => error.refused().map(|refused| refused.code.clone()),
            Self::Said { .. } | Self::Output(_) | Self::Other(_) => None,
        };
        let code = code.map(|code| format!(" [{code}]")).unwrap_or_default();
        output::complain(&format!("error: {}{code}", self.chain()));
        let next = self.next();
        if !next.is_empty() {
            output::complain(&format!("next: {next}"));
        }
        self.exit()
    }

    /// How the process ends.
    pub fn exit(&self) -> Exit {
        use client::Error as E;
        match self {
            Self::Said { exit, .. } => *exit,
            Self::Client(E::Refused(_) | E::Options(OptionsError::Plaintext { .. })) => Exit::Refused,
            Self::Client(E::Unauthenticated(_) | E::PermissionDenied(_)) => Exit::Denied,
            Self::Client(E::Certificate { problem, .. }) if problem.is_of_the_client() => Exit::Denied,
            Self::Client(E::Certificate { .. }) => Exit::Unreachable,
            Self::Client(E::NoLeader(_) | E::Unreachable { .. } | E::Unknown { .. }) => Exit::Unreachable,
            Self::Client(E::Options(_)) => Exit::Usage,
            Self::Other(error) if error.is::<ConfigError>() => Exit::Usage,
            Self::Other(error) => error.downcast_ref().map_or(Exit::Failed, of_a_node),
            Self::Client(E::Failed { .. } | E::Gap { .. }) | Self::Output(_) => Exit::Failed,
        }
    }

    fn next(&self) -> String {
        use client::Error as E;
        match self {
            Self::Said { next, .. } => next.clone(),
            Self::Client(error) => match error {
                E::Refused(refused) => refused.remedy.clone(),
                E::Unauthenticated(refused) if refused.remedy.is_empty() => {
                    "give a valid token in REVOLVE_TOKEN or REVOLVE_TOKEN_FILE".into()
                }
                E::PermissionDenied(refused) if refused.remedy.is_empty() => {
                    "ask someone whose role allows it".into()
                }
                E::NoLeader(refused) if refused.remedy.is_empty() => {
                    "try again; if it stays so, see which nodes run with `revolve cluster status`".into()
                }
                E::Unauthenticated(refused) | E::PermissionDenied(refused) | E::NoLeader(refused) => {
                    refused.remedy.clone()
                }
                E::Certificate { problem, .. } => of_certificate(*problem).into(),
                E::Unreachable { .. } => {
                    "check REVOLVE_ADDR or --addr, or start a system of your own with `revolve dev`".into()
                }
                E::Unknown { .. } => "look whether it was carried out before you try again".into(),
                E::Failed { .. } => "look at the server's log".into(),
                E::Gap { .. } => "start again with `revolve feed watch --after 0`".into(),
                E::Options(OptionsError::NoAddress | OptionsError::Address { .. }) => {
                    "give a URL such as https://node-1:7800 in --addr or REVOLVE_ADDR".into()
                }
                E::Options(OptionsError::Plaintext { .. }) => {
                    "use https with --cacert, or accept that others can read it with --insecure-plaintext"
                        .into()
                }
                E::Options(OptionsError::NoCa { .. } | OptionsError::Ca { .. }) => {
                    "give the cluster's CA certificate (PEM) in --cacert or REVOLVE_CACERT".into()
                }
                E::Options(OptionsError::Certificate { .. }) => {
                    "give a certificate and the key that belongs to it in --client-cert and --client-key"
                        .into()
                }
                E::Options(OptionsError::Token) => "a token is one line of plain characters".into(),
            },
            Self::Output(_) | Self::Other(_) => String::new(),
        }
    }

    /// The message with all its causes.
    fn chain(&self) -> String {
        let mut text = self.to_string();
        let mut cause = std::error::Error::source(self);
        while let Some(error) = cause {
            text.push_str(": ");
            text.push_str(&error.to_string());
            cause = error.source();
        }
        text
    }
}

const fn of_certificate(problem: CertificateProblem) -> &'static str {
    use CertificateProblem as P;
    match problem {
        P::Wanted => {
            "give one in --client-cert and --client-key; an admin issues it with `revolve certificate issue`"
        }
        P::Expired | P::Revoked | P::NotAccepted => {
            "ask an admin for a new one, which `revolve certificate issue` makes"
        }
        P::ServerUnknown => "give the CA certificate of this cluster in --cacert or REVOLVE_CACERT",
        P::ServerName => {
            "call the node by a name in its certificate; `certificates.names` of its configuration adds one"
        }
        P::ServerExpired => {
            "see whether the clocks of this machine and of the node are right, and the log of the node"
        }
        P::ServerUnusable => "look at the log of the node",
    }
}

/// How a node ends, for whoever starts it again: deploy/systemd/revolve.service does not for what only a person can mend.
fn of_a_node(error: &ServerError) -> Exit {
    match error {
        ServerError::Fatal(_)
        | ServerError::Cluster(StartError::Log { .. } | StartError::Quarantined { .. }) => Exit::Protected,
        ServerError::Unfit(_) => Exit::Refused,
        ServerError::Config(_) | ServerError::RootKey(_) | ServerError::BootstrapToken { .. } => Exit::Usage,
        ServerError::Listen { .. }
        | ServerError::Tls(_)
        | ServerError::Join(_)
        | ServerError::Serve(_)
        | ServerError::Cluster(
            StartError::Settings(_)
            | StartError::Keys(_)
            | StartError::Unfit(_)
            | StartError::Damaged { .. }
            | StartError::Data { .. }
            | StartError::Raft(_),
        ) => Exit::Failed,
    }
}

/// Prints what clap has to say: help and version to stdout, usage errors to stderr.
pub fn from_clap(error: &clap::Error) -> ExitCode {
    let printed = error.print();
    if error.use_stderr() {
        return Exit::Usage.into();
    }
    if printed.is_err() { Exit::Failed.into() } else { Exit::Done.into() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use client::{Error, Refused};

    #[test]
    fn every_failure_ends_with_the_documented_code() {
        let refused = || Refused { code: "x".into(), message: "no".into(), remedy: String::new() };
        let cases = [
            (Failure::from(Error::Refused(refused())), 5),
            (Error::Unauthenticated(refused()).into(), 4),
            (Error::PermissionDenied(refused()).into(), 4),
            (Error::NoLeader(refused()).into(), 3),
            (Error::Unreachable { tried: Vec::new() }.into(), 3),
            (Error::Certificate { address: String::new(), problem: CertificateProblem::Wanted }.into(), 4),
            (
                Error::Certificate { address: String::new(), problem: CertificateProblem::ServerName }.into(),
                3,
            ),
            (Error::Failed { message: String::new() }.into(), 1),
            (Error::Options(OptionsError::NoAddress).into(), 64),
            (Error::Options(OptionsError::Plaintext { address: String::new() }).into(), 5),
            (Failure::usage("", ""), 64),
            (anyhow::anyhow!("other").into(), 1),
            (anyhow::Error::from(ServerError::Fatal("disk".into())).into(), 6),
            (anyhow::Error::from(ServerError::Config(ConfigError::NoRootKey)).into(), 64),
            (anyhow::Error::from(ConfigError::NoNumber).into(), 64),
        ];
        for (failure, code) in cases {
            assert_eq!(failure.exit() as u8, code, "{failure:?}");
        }
    }
}
