//! What the broker says where an exchange or a queue is there with other properties, as data.
//!
//! Owns the reading of its text. Must not guess: a text that is not known stays a text. The broker names the first property
//! that differs, and no other.

use std::fmt;

use serde::Serialize;

use super::policy::quoted;

/// A property that differs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Difference {
    /// An argument, or `type`, `durable`, `auto_delete`.
    pub argument: String,
    /// What this program declares. None: nothing.
    pub wanted: Option<String>,
    /// What is there. None: nothing.
    pub found: Option<String>,
    /// Where: the broker's tools mean `/` where they are told of none.
    #[serde(skip)]
    pub vhost: String,
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let argument = &self.argument;
        let shown = |value: Option<&str>| {
            value.map(|value| if value.is_empty() { "\"\"".to_owned() } else { value.to_owned() })
        };
        match (shown(self.found.as_deref()), shown(self.wanted.as_deref())) {
            (Some(found), Some(wanted)) => write!(f, "{argument} is {found}, and must be {wanted}"),
            (Some(found), None) => write!(f, "{argument} is {found}, and must not be set"),
            (None, Some(wanted)) => write!(f, "{argument} is not set, and must be {wanted}"),
            (None, None) => write!(f, "{argument} differs"),
        }
    }
}

impl Difference {
    /// Reads `inequivalent arg 'ARGUMENT' for OBJECT in vhost 'VHOST': received WANTED but current is FOUND`.
    pub(super) fn read(text: &str) -> Option<Self> {
        let (_, rest) = text.split_once("inequivalent arg '")?;
        let (argument, rest) = rest.split_once("' for ")?;
        // From the end: the name of the object stands before.
        let (rest, found) = rest.rsplit_once(" but current is ")?;
        let (rest, wanted) = rest.rsplit_once(": received ")?;
        let vhost = rest.rsplit_once(" in vhost '")?.1.strip_suffix('\'')?;
        Some(Self {
            argument: argument.to_owned(),
            wanted: value(wanted).ok()?,
            found: value(found).ok()?,
            vhost: vhost.to_owned(),
        })
    }

    /// What somebody has to do, who is told of this.
    pub(super) fn remedy(&self, object: &str, name: &str) -> String {
        if object == "exchange" {
            return format!(
                "It cannot change: stop the relays, delete exchange {name}, and start them: it is declared anew, and events \
                 wait meanwhile. Queues that are not Holdfast's must then be bound again"
            );
        }
        let back = match (self.argument.as_str(), &self.found) {
            ("x-delivery-limit", Some(found)) => {
                format!(", or set bus.rabbitmq.delivery_limit to {found}, and lower it by a policy")
            }
            _ => String::new(),
        };
        let vhost = quoted(&self.vhost);
        format!(
            "It cannot change: stop the relays, so that events wait; let the workers that still run empty the queue; delete it \
             (rabbitmqctl delete_queue --vhost {vhost} {name} --if-empty), and start the relays: it is declared anew{back}"
        )
    }
}

/// `none`, `'VALUE'`, or `the value 'VALUE' of type 'TYPE'`. An error: it is something else.
fn value(text: &str) -> Result<Option<String>, ()> {
    let text = text.trim();
    if text == "none" || text == "undefined" {
        return Ok(None);
    }
    let typed = text.strip_prefix("the value '").and_then(|rest| rest.rsplit_once("' of type '"));
    let plain = || text.strip_prefix('\'').and_then(|rest| rest.strip_suffix('\''));
    typed.map(|(value, _)| value).or_else(plain).map(|value| Some(value.to_owned())).ok_or(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Option<(String, Option<String>, Option<String>)> {
        Difference::read(text).map(|one| (one.argument, one.wanted, one.found))
    }

    #[test]
    fn what_the_broker_says_is_read() {
        let some = |text: &str| Some(text.to_owned());
        let told = "PRECONDITION_FAILED - inequivalent arg 'x-delivery-limit' for queue 'a.mail' in vhost '/': received '5' but \
                    current is '20'";
        assert_eq!(read(told), Some(("x-delivery-limit".into(), some("5"), some("20"))));
        let told = "PRECONDITION_FAILED - inequivalent arg 'x-queue-type' for queue 'a.mail' in vhost '/': received the value \
                    'quorum' of type 'longstr' but current is none";
        assert_eq!(read(told), Some(("x-queue-type".into(), some("quorum"), None)));
        let told = "PRECONDITION_FAILED - inequivalent arg 'x-max-length' for queue 'q: received ' but current is ' in vhost \
                    '/': received none but current is the value '9' of type 'signedint'";
        assert_eq!(read(told), Some(("x-max-length".into(), None, some("9"))));
        let told = "PRECONDITION_FAILED - inequivalent arg 'x-dead-letter-exchange' for queue 'q' in vhost '/': received '' but \
                    current is 'it's'";
        assert_eq!(read(told), Some(("x-dead-letter-exchange".into(), some(""), some("it's"))));
        for other in [
            "PRECONDITION_FAILED - invalid arg 'x-message-ttl' for queue 'q' in vhost '/': {value_negative,-1}",
            "RESOURCE_LOCKED - cannot obtain exclusive access to locked queue 'q' in vhost '/'",
            "inequivalent arg 'x' for queue 'q': received 5 but current is '6'",
        ] {
            assert_eq!(read(other), None, "{other}");
        }
    }

    #[test]
    fn a_difference_says_both_values() {
        let difference = |wanted: Option<&str>, found: Option<&str>| Difference {
            argument: "x-delivery-limit".into(),
            wanted: wanted.map(str::to_owned),
            found: found.map(str::to_owned),
            vhost: "a b".into(),
        };
        let both = difference(Some("5"), Some("20"));
        assert_eq!(both.to_string(), "x-delivery-limit is 20, and must be 5");
        assert!(both.remedy("queue", "a.mail").contains("set bus.rabbitmq.delivery_limit to 20"));
        assert!(both.remedy("queue", "a.mail").contains("delete_queue --vhost 'a b' a.mail --if-empty"));
        assert_eq!(difference(None, Some("20")).to_string(), "x-delivery-limit is 20, and must not be set");
        assert_eq!(difference(Some(""), None).to_string(), "x-delivery-limit is not set, and must be \"\"");
        let unset = difference(Some("5"), None);
        assert_eq!(unset.to_string(), "x-delivery-limit is not set, and must be 5");
        assert!(unset.remedy("queue", "a.mail").ends_with("declared anew"));
    }
}
