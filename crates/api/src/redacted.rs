//! `Debug` of the messages that carry a secret: everything but the secret.

use std::fmt;

use crate::v1;

/// Stands where a secret is, if there is one.
const fn redacted(present: bool) -> &'static str {
    if present { "[redacted]" } else { "" }
}

macro_rules! redacted {
    ($($message:ident { $($field:ident),* ; $($secret:ident),* })*) => {$(
        impl fmt::Debug for v1::$message {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.debug_struct(stringify!($message))
                    $(.field(stringify!($field), &self.$field))*
                    $(.field(stringify!($secret), &redacted(!self.$secret.is_empty())))*
                    .finish()
            }
        }
    )*};
}

redacted! {
    Target { name, provider, params, secrets, break_glass_roles, has_admin_password; admin_password }
    Store { name, kind, params, has_access; access }
    Credential {
        name, identity, target, strategy, usernames, stores, workloads, shared, current_version, versions, rotation;
        adopt_password
    }
    IssueTokenResponse { expires_ms; token }
    CreateJoinTokenResponse { name, expires_ms; token }
    RevealGrantResponse { username, expires_ms, connection; password }
    GetSecretResponse { version, username, connection; password }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_secret_is_printed() {
        const CANARY: &str = "canary-7f3a";
        let texts = [
            format!("{:?}", v1::Target { admin_password: CANARY.into(), ..Default::default() }),
            format!(
                "{:?}",
                v1::Store { access: [("key".into(), CANARY.into())].into(), ..Default::default() }
            ),
            format!("{:?}", v1::Credential { adopt_password: CANARY.into(), ..Default::default() }),
            format!("{:?}", v1::IssueTokenResponse { token: CANARY.into(), ..Default::default() }),
            format!("{:?}", v1::RevealGrantResponse { password: CANARY.into(), ..Default::default() }),
            format!("{:?}", v1::GetSecretResponse { password: CANARY.into(), ..Default::default() }),
        ];
        for text in texts {
            assert!(!text.contains(CANARY) && text.contains("[redacted]"), "{text}");
        }
    }
}
