//! What a fuzzer is let at: bytes that came from a socket, decoded as each request that is turned into the model's
//! words. The function takes any bytes and must return. It is run as an ordinary test below, and for hours by the
//! targets in `fuzz/`.

use model::{
    command::{PutConsumer, PutCredential, PutIdentity, PutStore, PutTarget, RequestGrant, Revoke},
    event::Subject,
    time::{Span, Time},
};
use prost::Message;

use crate::{Malformed, resource::Kind, schedule, v1};

/// The first byte chooses the message.
pub fn requests(bytes: &[u8]) {
    let Some((kind, bytes)) = bytes.split_first() else { return };
    match kind % 10 {
        0 => read::<v1::Identity, PutIdentity>(bytes),
        1 => read::<v1::Target, PutTarget>(bytes),
        2 => read::<v1::Store, PutStore>(bytes),
        3 => read::<v1::Credential, PutCredential>(bytes),
        4 => read::<v1::Consumer, PutConsumer>(bytes),
        5 => read::<v1::RequestGrantRequest, RequestGrant>(bytes),
        6 => read::<v1::CreateRevocationRequest, Revoke>(bytes),
        7 => read::<v1::RevocationSubject, Subject>(bytes),
        8 => {
            if let Ok(wire) = v1::Schedule::decode(bytes) {
                drop(schedule::declared(&wire, Span::minutes(1), Time(1_700_000_000_000)));
            }
        }
        _ => {
            for resource in v1::ApplyRequest::decode(bytes).unwrap_or_default().resources {
                let _ = resource.key().map(|(kind, name)| (Kind::as_str(kind), name.len()));
            }
        }
    }
}

fn read<M: Message + Default, T: TryFrom<M, Error = Malformed>>(bytes: &[u8]) {
    if let Ok(message) = M::decode(bytes) {
        drop(T::try_from(message));
    }
}

#[cfg(test)]
mod tests {
    use fuzzing::{INPUTS, survives};

    use super::*;

    fn seed(kind: u8, message: &impl Message) -> Vec<u8> {
        [vec![kind], message.encode_to_vec()].concat()
    }

    #[test]
    fn requests_of_any_content_are_read_or_refused() {
        let text = String::from;
        let identity = v1::Identity {
            name: text("orders"),
            owner: text("team"),
            purpose: text("reads"),
            workload: text("orders"),
            environment: text("test"),
            review_by_ms: u64::MAX,
        };
        let params = [(text("host"), text("db")), (text("port"), text("5432"))];
        let target = v1::Target {
            name: text("db"),
            provider: text("postgres"),
            params: params.clone().into(),
            ..Default::default()
        };
        let store =
            v1::Store { name: text("s"), kind: text("builtin"), params: params.into(), ..Default::default() };
        let credential = v1::Credential {
            name: text("orders-db"),
            identity: text("orders"),
            target: text("db"),
            stores: vec![v1::Placement { store: text("s"), path: text("a/b") }],
            ..Default::default()
        };
        let consumer = v1::Consumer { name: text("edge"), owner: text("team"), ..Default::default() };
        let grant = v1::RequestGrantRequest { reason: text("why"), ..Default::default() };
        let subject = v1::RevocationSubject {
            subject: Some(v1::revocation_subject::Subject::Credential(text("orders-db"))),
        };
        let revocation = v1::CreateRevocationRequest {
            subject: Some(subject.clone()),
            reason_code: text("key-compromise"),
            reason: text("found"),
            ack_within_ms: 1,
        };
        let timing =
            v1::Timing { cron: text("0 3 * * 1"), time_zone: text("Europe/Prague"), ..Default::default() };
        let schedule = v1::Schedule {
            name: text("weekly"),
            credential: text("orders-db"),
            timing: Some(timing),
            ..Default::default()
        };
        let apply = v1::ApplyRequest {
            resources: vec![identity.clone().into(), target.clone().into()],
            dry_run: true,
        };
        let seeds = vec![
            seed(0, &identity),
            seed(1, &target),
            seed(2, &store),
            seed(3, &credential),
            seed(4, &consumer),
            seed(5, &grant),
            seed(6, &revocation),
            seed(7, &subject),
            seed(8, &schedule),
            seed(9, &apply),
        ];
        survives(INPUTS, seeds, requests);
    }
}
