//! `revolve help`: commands, and topics that belong to none.

use clap::CommandFactory;

use super::Cli;
use crate::{
    exit::{Exit, Failure, Outcome},
    output,
};

/// On what.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// exit-codes, environment, or a command
    topic: Vec<String>,
}

const EXIT_CODES: &str = "\
Exit codes
    0  done
    1  failed
    2  done, and something needs attention: acks outstanding, degraded, plan has changes
    3  no leader, or nobody to reach
    4  not authenticated or not authorised
    5  refused: precondition, policy, conflict
    6  a node has stopped to protect what is stored; look before you start it again
   64  usage: the command, a setting or a file makes no sense as written
  124  waiting took too long; the work goes on
  130  interrupted
";

const ENVIRONMENT: &str = "\
Settings: flag, then environment, then file, then default
  flag                variable             file         default
  --addr              REVOLVE_ADDR         addr         http://127.0.0.1:7800
                      REVOLVE_TOKEN
  --token-file        REVOLVE_TOKEN_FILE   token-file
  --cacert            REVOLVE_CACERT       cacert
  --client-cert       REVOLVE_CLIENT_CERT  client-cert
  --client-key        REVOLVE_CLIENT_KEY   client-key
  --request-timeout   REVOLVE_TIMEOUT      timeout      10s
  --output            REVOLVE_OUTPUT       output       table
  --log               REVOLVE_LOG
                      REVOLVE_LOG_FORMAT                text, or json

The file is $XDG_CONFIG_HOME/revolve/config.toml, or ~/.config/revolve/config.toml.
REVOLVE_ADDR may list several addresses with commas; they are tried in turn.
REVOLVE_JOIN_TOKEN holds the token for `revolve cluster join`, where no --token-file is given.
A token is never given as a flag. NO_COLOR and TERM=dumb switch colour off.
";

/// Prints the topic.
pub fn run(args: &Args) -> Outcome {
    let words: Vec<_> = args.topic.iter().map(String::as_str).collect();
    let text = match words.as_slice() {
        ["exit-codes"] => EXIT_CODES.to_owned(),
        ["environment"] => ENVIRONMENT.to_owned(),
        words => command(words)?,
    };
    output::write(&text)?;
    Ok(Exit::Done)
}

fn command(words: &[&str]) -> Result<String, Failure> {
    let mut root = Cli::command();
    root.build();
    let mut command = &mut root;
    for word in words {
        command = command.find_subcommand_mut(word).ok_or_else(|| {
            let next = "topics are exit-codes and environment; commands are listed by `revolve --help`";
            Failure::usage(format!("there is no help on `{word}`"), next)
        })?;
    }
    Ok(command.render_help().to_string())
}
