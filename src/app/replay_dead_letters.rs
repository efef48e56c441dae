//! Having dead letters sent to their consumers again.
//!
//! This only asks for it: the process that publishes sends them, of each order one after the other, and a letter goes once its
//! effect is committed. So it may be asked for at any time, any number of times: the inbox decides what takes effect.

use std::collections::BTreeMap;

use super::{App, Error};
use crate::store::dead_letters::{
    DeadLetter,
    replays::{self, ReplayState, WaitedFor},
};

/// How a letter stands, to who has asked for its replay.
#[derive(Debug, Clone)]
pub enum Replayed {
    /// It is on its way. `is_claimed`: a process has begun to send it.
    OnItsWay {
        /// Whether anybody sends it.
        is_claimed: bool,
    },
    /// It is dead again.
    Dead {
        /// The letter, as it is now.
        letter: WaitedFor,
        /// Whether it was sent at all: else an earlier one of its order is dead again, and it was not tried.
        was_tried: bool,
    },
    /// It has taken effect.
    Done,
}

impl App {
    /// How each of these letters stands to a replay.
    pub async fn list_replay_states(&self, ids: &[i64]) -> Result<Vec<(i64, ReplayState)>, Error> {
        Ok(replays::list_states(&mut *self.store.conn().await?, ids).await?)
    }

    /// Has letters replayed: those that can be, and are not being replayed. Gives their ids. `by` is who asks.
    pub async fn replay_dead_letters(&self, ids: &[i64], by: &str) -> Result<Vec<i64>, Error> {
        Ok(replays::mark_requested(&mut *self.store.conn().await?, ids, by).await?)
    }

    /// How these letters stand by now, as they were when their replay was asked for.
    pub async fn find_replayed(&self, letters: &[DeadLetter]) -> Result<BTreeMap<i64, Replayed>, Error> {
        let ids: Vec<i64> = letters.iter().map(|letter| letter.id).collect();
        let waiting = replays::list_waited_for(&mut *self.store.conn().await?, &ids).await?;
        let mut waiting: BTreeMap<i64, WaitedFor> =
            waiting.into_iter().map(|letter| (letter.id, letter)).collect();
        let mut stand = |before: &DeadLetter| match waiting.remove(&before.id) {
            None => Replayed::Done,
            Some(letter) if letter.is_on_its_way => Replayed::OnItsWay { is_claimed: letter.is_claimed },
            Some(letter) => Replayed::Dead { was_tried: letter.last_at != before.last_at, letter },
        };
        Ok(letters.iter().map(|before| (before.id, stand(before))).collect())
    }
}
