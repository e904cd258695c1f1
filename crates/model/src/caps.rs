//! Every limit of the domain, in one place.

use crate::time::Span;

/// Longest name of anything an operator names, in bytes.
pub const NAME_BYTES: usize = 63;
/// Longest free text (purpose, reason, ticket, note), in bytes.
pub const TEXT_BYTES: usize = 1_024;
/// Longest sealed blob, in bytes; a credential bundle is far smaller.
pub const SEALED_BYTES: usize = 16 * 1_024;
/// Most values sealed anew by one command.
pub const RESEALED: usize = 256;
/// Most root keys that one node holds.
pub const ROOT_KEYS: usize = 4;
/// Most parameters of one target or store.
pub const PARAMS: usize = 64;
/// Most names in one list (stores of a credential, credentials of a subscription, roles of a target).
pub const LIST: usize = 1_024;
/// Most ranges in one acknowledgement.
pub const ACK_RANGES: usize = 1_024;
/// Most failed receipts kept per consumer; older ones are forgotten first.
pub const FAILED_RECEIPTS: usize = 1_024;
/// Most passages kept in the history of one rotation; the oldest go first.
pub const PASSAGES: usize = 64;
/// Events kept in the feed; a consumer behind them is given a snapshot.
pub const FEED_EVENTS: u64 = 10_000;
/// Shortest generated secret, in characters.
pub const SECRET_MIN: u16 = 16;
/// Longest generated secret, in characters.
pub const SECRET_MAX: u16 = 256;
/// Longest break-glass grant.
pub const GRANT_MAX: Span = Span::hours(4);
/// Shortest break-glass grant.
pub const GRANT_MIN: Span = Span::seconds(1);
/// How long a request waits for an approver before it lapses.
pub const REQUEST_LAPSES_AFTER: Span = Span::hours(1);
/// A due instant reached later than this is a misfire.
pub const MISFIRE_GRACE: Span = Span::seconds(60);
/// Longest time one attempt of a step may take.
pub const ATTEMPT_MAX: Span = Span::minutes(10);
/// Longest wait between two attempts of a step.
pub const RETRY_MAX: Span = Span::hours(1);
/// The wait after an attempt was lost for the second time; it doubles from then on.
pub const LOST_WAIT: Span = Span(500);
/// Longest wait after an attempt was lost.
pub const LOST_WAIT_MAX: Span = Span::minutes(5);
/// How long after its deadline an attempt may still be finished before it counts as lost.
pub const ATTEMPT_GRACE: Span = Span::seconds(2);
/// Longest overlap of two versions.
pub const OVERLAP_MAX: Span = Span::days(90);
/// Longest time consumers may be given to enforce an event.
pub const ACK_WITHIN_MAX: Span = Span::days(90);
/// Most attempts of one step.
pub const ATTEMPTS_MAX: u32 = 1_000;
/// Longest user name at a target, in bytes (PostgreSQL cuts at 63).
pub const USERNAME_BYTES: usize = 63;
/// Ended rotations kept of one credential; when another one ends, the oldest is forgotten.
pub const ENDED_ROTATIONS: usize = 16;
/// Grants kept after their end; when another one ends, the oldest is forgotten. The audit log keeps them all.
pub const ENDED_GRANTS: usize = 1_000;
/// Most certificates of clients kept, those that have ended included.
pub const CERTIFICATES: usize = 10_000;
/// How long a certificate is kept after its end, at least.
pub const CERTIFICATE_KEPT_AFTER_END: Span = Span::days(7);
/// Longest text of one ledger entry, in bytes; what is longer is cut.
pub const LEDGER_TEXT_BYTES: usize = 256;
/// Most versions of which one command says what a probe has found.
pub const LOOKS: usize = 256;
/// Longest note on what a probe has found, in bytes; what is longer is cut.
pub const LOOK_NOTE_BYTES: usize = 256;
/// How long after a version could not be asked about it is asked about again, while a restored cluster observes.
pub const LOOK_AGAIN_AFTER: Span = Span::minutes(1);
/// Most events that are taken in from the records of consumers when a cluster is put back.
pub const SEEN_EVENTS: usize = 1_000_000;
/// Highest revision, grant or revocation that such a record may name: more than a cluster gives out in a lifetime.
pub const SEEN_REVISION: u64 = 1 << 48;
/// Highest version that such a record may name.
pub const SEEN_VERSION: u32 = 1 << 30;
/// Shortest life of a join token.
pub const JOIN_TOKEN_MIN: Span = Span::seconds(1);
/// Longest life of a join token.
pub const JOIN_TOKEN_MAX: Span = Span::hours(24);
/// Join tokens kept; when another one is made, the oldest dead one is forgotten.
pub const JOIN_TOKENS: usize = 256;
/// Longest text of one audit record, in bytes; what is longer is cut.
pub const AUDIT_TEXT_BYTES: usize = 4 * 1_024;
