//! Recognises, in what a PostgreSQL server sends, the answer that says a transaction has committed.
//!
//! Messages: PostgreSQL documentation, "Message Formats". A transaction outside of BEGIN commits before
//! ReadyForQuery, and with the extended protocol after CommandComplete: only both together are the proof.

use super::Verdict;

const COMMAND_COMPLETE: u8 = b'C';
const ERROR_RESPONSE: u8 = b'E';
const READY_FOR_QUERY: u8 = b'Z';
/// ReadyForQuery's status outside of a transaction block.
const IDLE: u8 = b'I';
/// A message's type byte and its length, which counts itself.
const HEADER_BYTES: usize = 5;

/// Starts at a message boundary, as every answer to a new request does.
#[derive(Debug, Default)]
pub(super) struct Commit {
    /// The beginning of a message whose end has not come yet.
    partial: Vec<u8>,
    /// Messages held back since CommandComplete.
    held: Vec<u8>,
}

impl Commit {
    /// Takes in more bytes; forwards whole messages, and cuts in place of the answer that says "committed".
    pub(super) fn take(&mut self, bytes: &[u8]) -> Verdict {
        self.partial.extend_from_slice(bytes);
        let mut forward = Vec::new();
        while let Some(length) = message_length(&self.partial) {
            let message: Vec<u8> = self.partial.drain(..length).collect();
            let body = &message[HEADER_BYTES..];
            let (holds, releases) = match message[0] {
                COMMAND_COMPLETE => (!body.starts_with(b"ROLLBACK"), false),
                READY_FOR_QUERY if !self.held.is_empty() && body == [IDLE] => return Verdict::Cut,
                READY_FOR_QUERY | ERROR_RESPONSE => (false, true),
                _ => (false, false),
            };
            if releases {
                forward.append(&mut self.held);
            }
            if holds || !self.held.is_empty() {
                self.held.extend(message);
            } else {
                forward.extend(message);
            }
        }
        Verdict::Forward(forward)
    }
}

/// The length of the first message, once all of it is there.
fn message_length(bytes: &[u8]) -> Option<usize> {
    let length = bytes.get(1..HEADER_BYTES)?.try_into().ok().map(u32::from_be_bytes)?;
    let whole = usize::try_from(length).ok()?.checked_add(1)?;
    (whole >= HEADER_BYTES && bytes.len() >= whole).then_some(whole)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(kind: u8, body: &[u8]) -> Vec<u8> {
        let length = u32::try_from(body.len() + 4).unwrap();
        [&[kind], length.to_be_bytes().as_slice(), body].concat()
    }

    fn complete(tag: &str) -> Vec<u8> {
        message(COMMAND_COMPLETE, format!("{tag}\0").as_bytes())
    }

    fn ready(status: u8) -> Vec<u8> {
        message(READY_FOR_QUERY, &[status])
    }

    fn prepared() -> Vec<u8> {
        [message(b'1', b""), message(b'n', b""), ready(IDLE)].concat()
    }

    #[test]
    fn a_prepared_statement_is_cut_at_its_execution_and_not_at_its_preparation() {
        let mut commit = Commit::default();
        assert_eq!(commit.take(&prepared()), Verdict::Forward(prepared()));
        let executed = [message(b'2', b""), complete("ALTER ROLE"), ready(IDLE)].concat();
        assert_eq!(commit.take(&executed), Verdict::Cut);
    }

    #[test]
    fn inside_a_transaction_the_answer_to_commit_is_lost() {
        let mut commit = Commit::default();
        let inside = [complete("ALTER ROLE"), ready(b'T')].concat();
        assert_eq!(commit.take(&inside), Verdict::Forward(inside.clone()));
        assert_eq!(commit.take(&[complete("COMMIT"), ready(IDLE)].concat()), Verdict::Cut);
    }

    #[test]
    fn a_failure_and_a_rollback_reach_the_client() {
        let failed = [message(ERROR_RESPONSE, b"no"), ready(IDLE)].concat();
        assert_eq!(Commit::default().take(&failed), Verdict::Forward(failed.clone()));
        let rolled_back = [complete("ROLLBACK"), ready(IDLE)].concat();
        assert_eq!(Commit::default().take(&rolled_back), Verdict::Forward(rolled_back.clone()));
        let second_failed = [complete("ALTER ROLE"), failed].concat();
        assert_eq!(Commit::default().take(&second_failed), Verdict::Forward(second_failed.clone()));
    }

    #[test]
    fn bytes_may_come_one_at_a_time() {
        let mut commit = Commit::default();
        let answer = [prepared(), complete("ALTER ROLE"), ready(IDLE)].concat();
        let mut forwarded = Vec::new();
        let mut cuts = 0;
        for byte in answer {
            match commit.take(&[byte]) {
                Verdict::Forward(bytes) => forwarded.extend(bytes),
                Verdict::Cut => cuts += 1,
            }
        }
        assert_eq!((forwarded, cuts), (prepared(), 1));
    }
}
