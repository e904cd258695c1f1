//! Consumers and what they answer.

use model::{
    State,
    command::{PutConsumer, Receipt},
    consumer::{Consumer, Subscription},
    time::Time,
};

use crate::{Malformed, malformed::parse_all, or_zero, parse, v1};

impl TryFrom<v1::Consumer> for PutConsumer {
    type Error = Malformed;

    fn try_from(wire: v1::Consumer) -> Result<Self, Malformed> {
        let subscription = wire.subscription.unwrap_or_default();
        Ok(Self {
            name: parse("name", &wire.name)?,
            owner: wire.owner,
            subscription: subscription.try_into().map_err(|error: Malformed| error.within("subscription"))?,
            required: wire.required,
        })
    }
}

impl TryFrom<v1::Subscription> for Subscription {
    type Error = Malformed;

    fn try_from(wire: v1::Subscription) -> Result<Self, Malformed> {
        Ok(Self {
            all: wire.all,
            credentials: parse_all("credentials", &wire.credentials)?,
            targets: parse_all("targets", &wire.targets)?,
        })
    }
}

impl From<&Subscription> for v1::Subscription {
    fn from(row: &Subscription) -> Self {
        Self {
            all: row.all,
            credentials: row.credentials.iter().map(ToString::to_string).collect(),
            targets: row.targets.iter().map(ToString::to_string).collect(),
        }
    }
}

/// A consumer with what is outstanding at `now`.
#[must_use]
pub fn shown(state: &State, row: &Consumer, now: Time) -> v1::Consumer {
    let (mut outstanding, mut overdue, mut oldest) = (0, 0, None);
    for event in state.outstanding_of(row) {
        outstanding += 1;
        overdue += u64::from(now >= event.deadline);
        oldest = oldest.or(Some(event.at));
    }
    v1::Consumer {
        name: row.name.to_string(),
        owner: row.owner.clone(),
        subscription: Some((&row.subscription).into()),
        required: row.required,
        since_revision: row.since,
        delivered_up_to: row.delivered,
        received_up_to: row.received.cursor(),
        enforced_up_to: row.enforced.cursor(),
        outstanding,
        oldest_outstanding_ms: oldest.map_or(0, |at| now.since(at).0),
        last_answer_ms: or_zero(row.last_answer),
        overdue,
    }
}

/// What an acknowledgement says.
///
/// # Errors
/// [`Malformed`] when its stage is not one.
pub fn receipt(stage: i32, detail: String) -> Result<Receipt, Malformed> {
    match v1::ReceiptStage::try_from(stage) {
        Ok(v1::ReceiptStage::Received) => Ok(Receipt::Received),
        Ok(v1::ReceiptStage::Enforced) => Ok(Receipt::Enforced),
        Ok(v1::ReceiptStage::Failed) => Ok(Receipt::Failed { detail }),
        Ok(v1::ReceiptStage::Unspecified) | Err(_) => {
            Err(Malformed::new("stage", "use one of RECEIVED, ENFORCED, FAILED"))
        }
    }
}
