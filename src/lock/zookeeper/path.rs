//! Names: where the queue of a key lives, how a node in it is called, and who stands before whom.
//!
//! Pure. The layout is part of the interface between versions of Holdfast that run at the same time: two processes that
//! disagree about it do not exclude each other.
//!
//! A queue is `<root>/<shard>/<key>`; a node in it `_c_<uuid>-lock-<sequence>`, as Apache Curator names it.

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_decode_str, utf8_percent_encode};
use sha2::{Digest as _, Sha256};
use uuid::Uuid;

/// What stands between the owner's id and the sequence number.
const SEPARATOR: &str = "-lock-";

/// Kept readable in a node name. Everything else is encoded: `/` separates nodes and `.` alone is no name.
const PLAIN: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'_');

/// The node under which the contenders for `key` queue. Different keys have different queues.
///
/// The shard keeps the list of children of one node short where there are many keys.
pub(super) fn queue(root: &str, key: &str) -> String {
    let shard = Sha256::digest(key.as_bytes())[0];
    format!("{root}/{shard:02x}/{}", utf8_percent_encode(key, PLAIN))
}

/// The key whose queue has this name.
pub(super) fn key(name: &str) -> String {
    percent_decode_str(name).decode_utf8_lossy().into_owned()
}

/// What the name of every node of one claim starts with. The server appends the sequence number.
pub(super) fn node_prefix(claim: Uuid) -> String {
    format!("_c_{claim}{SEPARATOR}")
}

/// The name of the node that is next before `own` in its queue; `None` if `own` is first.
///
/// The server's counter is 32 bits wide and wraps to negative numbers, so numbers are compared by their distance: nodes
/// that live at the same time are never 2^31 creations apart. A name without a number is not a contender.
pub(super) fn predecessor<'a>(children: &'a [String], own: &str) -> Option<&'a str> {
    let own = sequence(own)?;
    children
        .iter()
        .filter_map(|name| Some((own.wrapping_sub(sequence(name)?), name.as_str())))
        .filter(|(distance, _)| *distance > 0)
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, name)| name)
}

/// The node that holds the lock, and how many wait behind it; `None` if nobody contends.
pub(super) fn first(children: &[String]) -> Option<(&str, usize)> {
    let contenders = || children.iter().filter(|name| sequence(name).is_some());
    let first = contenders().find(|name| predecessor(children, name).is_none())?;
    Some((first, contenders().count() - 1))
}

fn sequence(name: &str) -> Option<i32> {
    name.rsplit_once(SEPARATOR)?.1.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn children(sequences: &[&str]) -> Vec<String> {
        sequences.iter().map(|sequence| format!("{}{sequence}", node_prefix(Uuid::now_v7()))).collect()
    }

    #[test]
    fn different_keys_have_different_queues() {
        let keys = ["a", "A", "a/b", "a%2Fb", "a b", ".", "..", "ä", "a-b", "a_b", "a.b"];
        let queues: std::collections::BTreeSet<_> = keys.iter().map(|key| queue("/r", key)).collect();
        assert_eq!(queues.len(), keys.len());
        assert!(queue("/r", "a/..").ends_with("/a%2F%2E%2E"));
        assert!(keys.iter().all(|&plain| key(queue("/r", plain).rsplit_once('/').unwrap().1) == plain));
    }

    #[test]
    fn the_layout_is_stable() {
        assert_eq!(queue("/holdfast/locks", "SKU-1/red"), "/holdfast/locks/a0/SKU-1%2Fred");
    }

    #[test]
    fn the_next_smaller_number_is_the_predecessor() {
        let queue = children(&["0000000009", "0000000007", "0000000012", "0000000010"]);
        assert_eq!(predecessor(&queue, &queue[3]), Some(queue[0].as_str()));
        assert_eq!(predecessor(&queue, &queue[1]), None);
        assert_eq!(first(&queue), Some((queue[1].as_str(), 3)));
        assert_eq!(first(&["stray".to_owned()]), None);
    }

    #[test]
    fn order_survives_the_overflow_of_the_counter() {
        let queue = children(&["2147483646", "2147483647", "-2147483648", "-2147483647"]);
        assert_eq!(predecessor(&queue, &queue[0]), None);
        assert_eq!(predecessor(&queue, &queue[2]), Some(queue[1].as_str()));
        assert_eq!(predecessor(&queue, &queue[3]), Some(queue[2].as_str()));
    }

    #[test]
    fn a_name_without_a_number_is_not_a_contender() {
        let mut queue = children(&["0000000005"]);
        queue.push("something-else".to_owned());
        assert_eq!(predecessor(&queue, &queue[0]), None);
    }
}
