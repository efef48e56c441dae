//! Following events: the history of one order, or all events, from a place on and as they come.

use std::collections::VecDeque;

use futures_util::future::BoxFuture;
use tokio::sync::watch;

use super::{App, Conflict, Error, watched::Watched};
use crate::{
    domain::{
        event::EventType,
        ids::{OrderId, PaymentId},
        payment::PaymentStatus,
    },
    store::{
        self, Conn, Store,
        events::{self, FeedRange, PlacedEvent},
        payments,
    },
};

/// How many events are read at a time.
const PAGE: i64 = 100;

/// How many events of the feed one query looks through for those of one type: however rare that is, a query ends soon, and
/// who reads gets a place to go on from.
const WALK: i64 = 50_000;

/// What clients of this process wait for.
#[derive(Debug, Clone)]
pub struct Watches {
    pub(super) payments: Watched<PaymentId, PaymentStatus>,
    versions: Watched<OrderId, i64>,
    feed: Watched<(), i64>,
}

impl Watches {
    /// Nobody waits yet.
    pub fn new(store: &Store) -> Self {
        Self {
            payments: Watched::new(store.clone(), |conn, ids| Box::pin(payments::list_statuses(conn, ids))),
            versions: Watched::new(store.clone(), |conn, ids| Box::pin(events::list_versions(conn, ids))),
            feed: Watched::new(store.clone(), feed_position),
        }
    }
}

fn feed_position<'a>(conn: &'a mut Conn, _: &'a [()]) -> BoxFuture<'a, Result<Vec<((), i64)>, store::Error>> {
    Box::pin(async { Ok(vec![((), events::find_range(conn).await?.position)]) })
}

/// Which events.
#[derive(Debug, Clone, Copy)]
pub enum Followed {
    /// The history of this order, committed or published.
    Order(OrderId),
    /// All that the broker has confirmed, of this type if given.
    All(Option<EventType>),
}

impl Followed {
    /// Up to where one query looks, where the feed has come to `come`.
    fn until(self, after: i64, come: i64) -> i64 {
        match self {
            Self::All(Some(_)) => come.min(after.saturating_add(WALK)),
            Self::All(None) | Self::Order(_) => come,
        }
    }
}

/// Events after a place.
#[derive(Debug)]
pub struct EventPage {
    /// In their order; of a type that is rare there may be none.
    pub events: Vec<PlacedEvent>,
    /// Whether there is more to look through.
    pub has_more: bool,
    /// Reading goes on after this place.
    pub next: i64,
}

/// What a reader of events comes to.
#[derive(Debug)]
pub enum Step {
    /// The next event.
    Event(PlacedEvent),
    /// No event, but a place before which there is none that was not given: reading can go on from there.
    Passed(i64),
}

/// A reader of events: gives each once, in order, and waits for the next. Dropping it ends it.
#[derive(Debug)]
pub struct Follower {
    store: Store,
    followed: Followed,
    /// The place up to which was read.
    after: i64,
    /// The place that was given last.
    given: i64,
    read: VecDeque<PlacedEvent>,
    progress: watch::Receiver<Option<i64>>,
}

impl App {
    /// A page of events after a place; `None`: from the first that is kept.
    pub async fn list_events(
        &self,
        followed: Followed,
        after: Option<i64>,
        limit: i64,
    ) -> Result<EventPage, Error> {
        let mut conn = self.store.conn().await?;
        // One more to know whether there is a next page.
        let (mut events, after, until, come) = match followed {
            Followed::Order(id) => {
                let after = after.unwrap_or(0);
                (events::list_of_order(&mut conn, id, after, limit + 1).await?, after, after, after)
            }
            Followed::All(event_type) => {
                let FeedRange { oldest, position: come } = events::find_range(&mut conn).await?;
                let after = after.unwrap_or(oldest - 1);
                let until = followed.until(after, come);
                let page = events::list(&mut conn, after, until, event_type, limit + 1).await?;
                require_kept(&mut conn, after).await?;
                (page, after, until, come)
            }
        };
        let limit = usize::try_from(limit).unwrap_or(usize::MAX);
        let is_full = events.len() > limit;
        events.truncate(limit);
        let last = events.last().map_or(after, |event| event.place);
        let next = if is_full { last } else { last.max(until) };
        Ok(EventPage { events, has_more: is_full || until < come, next })
    }

    /// Follows events after a place; `None`: an order from its beginning, the feed from now on.
    pub async fn follow_events(&self, followed: Followed, after: Option<i64>) -> Result<Follower, Error> {
        let (progress, after) = match followed {
            Followed::Order(id) => (self.watches.versions.subscribe(id), after.unwrap_or(0)),
            Followed::All(_) => {
                let progress = self.watches.feed.subscribe(());
                let mut conn = self.store.conn().await?;
                let after = match after {
                    Some(after) => require_kept(&mut conn, after).await.map(|()| after)?,
                    None => events::find_range(&mut conn).await?.position,
                };
                (progress, after)
            }
        };
        let store = self.store.clone();
        Ok(Follower { store, followed, after, given: after, read: VecDeque::new(), progress })
    }
}

/// That no event after this place was dropped; of a page that was read, before it was.
async fn require_kept(conn: &mut Conn, after: i64) -> Result<(), Error> {
    let FeedRange { oldest, .. } = events::find_range(conn).await?;
    if after + 1 < oldest {
        return Err(Conflict::EventsNoLongerKept { oldest_place: oldest }.into());
    }
    Ok(())
}

impl Follower {
    /// The next event, however long that takes; now and then a place where there was none for long. Can be dropped while it
    /// waits.
    pub async fn next(&mut self) -> Result<Step, Error> {
        loop {
            if let Some(event) = self.read.pop_front() {
                self.given = event.place;
                return Ok(Step::Event(event));
            }
            if self.after - self.given >= WALK {
                self.given = self.after;
                return Ok(Step::Passed(self.after));
            }
            let after = self.after;
            // It fails where the sender is gone, which is not before the receiver.
            let progress = self.progress.wait_for(|seen| seen.is_some_and(|seen| seen > after)).await;
            let come = progress.ok().and_then(|seen| *seen).unwrap_or(after);
            let until = self.followed.until(after, come);
            let mut conn = self.store.conn().await?;
            let page = match self.followed {
                Followed::Order(id) => events::list_of_order(&mut conn, id, after, PAGE).await?,
                Followed::All(event_type) => {
                    let page = events::list(&mut conn, after, until, event_type, PAGE).await?;
                    require_kept(&mut conn, after).await?;
                    page
                }
            };
            let last = page.last().map_or(after, |event| event.place);
            // A page that is not full ends where the looking did, whatever was left out of it.
            let is_full = i64::try_from(page.len()) == Ok(PAGE);
            self.after = if is_full { last } else { last.max(until) };
            self.read = page.into();
        }
    }
}
