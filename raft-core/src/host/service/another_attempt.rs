//! Whether and when a client asks again after an attempt that failed.

use std::time::Duration;

use crate::host::error::ProposeError;

/// How long a client pauses before the second attempt. Each pause is twice as long as the one
/// before.
pub(super) const PAUSE_MIN: Duration = Duration::from_millis(2);
/// The longest pause: a fraction of an election.
pub(super) const PAUSE_MAX: Duration = Duration::from_millis(50);
/// Whether the same command may be admitted if it is proposed again a little later.
pub(super) fn is_worth_another(error: &ProposeError) -> bool {
    match error {
        ProposeError::NotLeader { .. }
        | ProposeError::LogFull { .. }
        | ProposeError::TooManyUncommitted { .. }
        | ProposeError::Busy { .. }
        | ProposeError::LeadershipLost { .. }
        | ProposeError::ForwardLost { .. } => true,
        ProposeError::TooLarge { .. }
        | ProposeError::NotEncodable { .. }
        | ProposeError::WaitsForItself
        | ProposeError::Stopped { .. } => false,
    }
}
