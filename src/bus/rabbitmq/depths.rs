//! How much waits in the queues, as the broker tells it by declarations that declare nothing.

use lapin::{options::QueueDeclareOptions, types::FieldTable};

use super::{
    connection::{Link, request},
    topology::{Topology, short},
};
use crate::bus::{BusError, QueueDepth};

/// Looks at every queue that this process knows. One that is not there is left out.
pub(super) async fn measure(link: &Link, topology: &Topology) -> Result<Vec<QueueDepth>, BusError> {
    let connected = link.get().await?;
    let mut depths = Vec::new();
    for queue in topology.queues() {
        // A channel for each: the broker closes the one on which it is asked for a queue that is not there.
        let channel = connected.open_channel().await?;
        let options = QueueDeclareOptions { passive: true, ..Default::default() };
        let asked = channel.queue_declare(short(&queue)?, options, FieldTable::default());
        match request("look at a queue", asked).await {
            Ok(found) => {
                depths.push(QueueDepth {
                    queue: topology.consumer(&queue).to_owned(),
                    messages: found.message_count(),
                    consumers: found.consumer_count(),
                });
                request("close a channel", channel.close(200, "looked".into())).await?;
            }
            Err(error) if connected.is_alive() => {
                tracing::debug!(queue, %error, "a queue cannot be looked at");
            }
            Err(error) => return Err(error),
        }
    }
    Ok(depths)
}
