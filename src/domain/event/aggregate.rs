//! Whose history an event belongs to, and the shard of the outbox that follows from it.

use uuid::Uuid;

use crate::domain::{ids::OrderId, inventory::LevelKey};

/// Whose history an event belongs to. Events of one aggregate stay in order, events of two need not.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Aggregate {
    /// An order, with its payments and shipments.
    Order(OrderId),
    /// An inventory level.
    InventoryLevel(LevelKey),
}

/// Virtual shards of the outbox: the unit that a relay process leases.
pub const SHARDS: u128 = 16;

impl Aggregate {
    /// Its id in the outbox; for a level a UUIDv5 of its key.
    pub fn uuid(&self) -> Uuid {
        match self {
            Self::Order(id) => id.uuid(),
            Self::InventoryLevel(key) => {
                let name = format!("{}\n{}", key.sku, key.location_id);
                Uuid::new_v5(&Uuid::NAMESPACE_OID, name.as_bytes())
            }
        }
    }

    /// The `subject` of its events, e.g. `order/ord_…`.
    pub fn subject(&self) -> String {
        match self {
            Self::Order(id) => format!("order/{id}"),
            Self::InventoryLevel(key) => format!("inventory/{}/{}", key.sku, key.location_id),
        }
    }

    /// Its shard, 0 to 15. The low bits of a UUIDv7 are random, those of a v5 a hash.
    pub fn shard(&self) -> i16 {
        // Invariant: a remainder by 16 fits an i16.
        i16::try_from(self.uuid().as_u128() % SHARDS).unwrap_or(0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_shard_of_an_aggregate_never_changes() {
        let key = |sku: &str| LevelKey {
            sku: sku.parse().expect("a SKU"),
            location_id: "main".parse().expect("a location"),
        };
        let shard = Aggregate::InventoryLevel(key("a")).shard();
        assert_eq!(shard, Aggregate::InventoryLevel(key("a")).shard());
        assert!((0..16).contains(&shard));
        assert_ne!(Aggregate::InventoryLevel(key("a")).uuid(), Aggregate::InventoryLevel(key("b")).uuid());
    }
}
