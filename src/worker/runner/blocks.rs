//! Whether an event builds on one that is a dead letter.
//!
//! On the usual way, without a dead letter of its order, this costs nothing: the orders that have one are known from a
//! reading that is renewed each second, and from what this process has buried itself. Only where that says so is PostgreSQL
//! asked for the letter. Another process may have buried an event within that second: the later one may then be handled before
//! it, as it may be while an event waits for its next try.

use std::{collections::HashSet, time::Duration};

use tokio::{sync::Mutex, time::Instant};

use crate::{
    app::App,
    domain::event::Envelope,
    store::{
        self,
        dead_letters::{self, EarlierLetter},
    },
};

/// How long a reading is good for.
const RENEWED: Duration = Duration::from_secs(1);

/// Of more orders than this is each asked for.
const MOST: i64 = 10_000;

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Blocks {
    known: Mutex<Known>,
}

#[derive(Debug, Default)]
struct Known {
    read_at: Option<Instant>,
    subjects: HashSet<String>,
    /// There are too many to know.
    is_partial: bool,
}

impl Blocks {
    /// The dead letter that an event builds on, if there is one.
    pub(super) async fn find(
        &self,
        app: &App,
        consumer: &str,
        envelope: &Envelope,
    ) -> Result<Option<EarlierLetter>, store::Error> {
        if !self.may_be(app, consumer, &envelope.subject).await? {
            return Ok(None);
        }
        let mut conn = app.store.conn_by_key().await?;
        dead_letters::find_earlier(&mut conn, consumer, &envelope.subject, envelope.sequence).await
    }

    /// An event of this subject is a dead letter now.
    pub(super) async fn add(&self, subject: &str) {
        self.known.lock().await.subjects.insert(subject.to_owned());
    }

    /// Those who come while it is read wait for it, so that it is read once.
    async fn may_be(&self, app: &App, consumer: &str, subject: &str) -> Result<bool, store::Error> {
        let mut known = self.known.lock().await;
        if known.read_at.is_none_or(|at| at.elapsed() > RENEWED) {
            let at = Instant::now();
            let subjects =
                dead_letters::list_subjects(&mut *app.store.conn_by_key().await?, consumer, MOST + 1).await?;
            let is_partial = i64::try_from(subjects.len()).is_ok_and(|count| count > MOST);
            *known = Known { read_at: Some(at), subjects: subjects.into_iter().collect(), is_partial };
        }
        Ok(known.is_partial || known.subjects.contains(subject))
    }
}
