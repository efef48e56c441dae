//! Which versions of a thing a request is meant for. It is compared under the row lock of the change: nothing can come
//! between.

use super::{Conflict, Error};

/// Which versions of a thing a request is meant for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ExpectedVersion {
    /// Any: the thing has to be there.
    Any,
    /// One of these.
    OneOf(Vec<i64>),
}

impl ExpectedVersion {
    /// Fails unless the thing is in a version that is meant; `None` is the version of one that is not there.
    pub(super) fn require(expected: Option<&Self>, current_version: Option<i64>) -> Result<(), Error> {
        let matches = match (expected, current_version) {
            (None, _) | (Some(Self::Any), Some(_)) => true,
            (Some(_), None) => false,
            (Some(Self::OneOf(versions)), Some(current)) => versions.contains(&current),
        };
        if matches { Ok(()) } else { Err(Conflict::VersionConflict { current_version }.into()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_version_is_required_only_where_one_is_expected() {
        let holds =
            |expected: Option<&ExpectedVersion>, current| ExpectedVersion::require(expected, current).is_ok();
        let one = ExpectedVersion::OneOf(vec![2, 3]);
        assert!(holds(None, None) && holds(None, Some(1)));
        assert!(holds(Some(&ExpectedVersion::Any), Some(1)) && !holds(Some(&ExpectedVersion::Any), None));
        assert!(holds(Some(&one), Some(3)) && !holds(Some(&one), Some(1)) && !holds(Some(&one), None));
    }
}
