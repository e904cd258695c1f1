//! stub
use crate::{
    State,
    command::Stamped,
    outcome::{Applied, Outcome},
};
pub(crate) fn apply(_state: &mut State, _stamped: &Stamped) -> Outcome {
    Ok(Applied::Changed)
}
