//! Open orders: those that hold stock and are not paid. How many of them a customer or a client may have is bounded, so
//! that nobody parks the stock by ordering and never paying.

use std::borrow::Cow;

use serde::Serialize;

use super::ids::ClientId;

/// The most open orders that one customer, and one client, may have. `None`: no bound.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OpenOrderCaps {
    /// For the orders of one `customer_id`. They are counted also where there is no cap.
    pub per_customer: Option<i64>,
    /// For the orders that one client has placed. Without a cap they are not counted: one row for a whole client makes all
    /// its placements wait for each other.
    pub per_client: Option<i64>,
}

impl OpenOrderCaps {
    /// Nobody is refused.
    pub const NONE: Self = Self { per_customer: None, per_client: None };

    /// Among whose open orders an order counts.
    pub fn owners(
        self,
        client_id: ClientId,
        customer_id: Option<&str>,
    ) -> impl Iterator<Item = OrderOwner<'_>> {
        let client = self.per_client.map(|_| OrderOwner::Client(client_id));
        client.into_iter().chain(customer_id.map(OrderOwner::Customer))
    }

    /// How many open orders of this owner there may be.
    pub const fn cap(self, owner: OrderOwner<'_>) -> Option<i64> {
        match owner {
            OrderOwner::Client(_) => self.per_client,
            OrderOwner::Customer(_) => self.per_customer,
        }
    }
}

/// Whose orders are counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum OwnerKind {
    /// A client of the API.
    Client,
    /// A customer of the merchant.
    Customer,
}

impl OwnerKind {
    /// The name in the API and in the database.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Client => "client",
            Self::Customer => "customer",
        }
    }
}

/// Somebody whose orders are counted. In the order in which their counts are locked, which is bytewise in SQL too.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum OrderOwner<'a> {
    /// See [`OwnerKind::Client`].
    Client(ClientId),
    /// See [`OwnerKind::Customer`].
    Customer(&'a str),
}

impl<'a> OrderOwner<'a> {
    /// Which kind.
    pub const fn kind(self) -> OwnerKind {
        match self {
            Self::Client(_) => OwnerKind::Client,
            Self::Customer(_) => OwnerKind::Customer,
        }
    }

    /// The name in the database.
    pub fn id(self) -> Cow<'a, str> {
        match self {
            Self::Client(id) => Cow::Owned(id.uuid().to_string()),
            Self::Customer(id) => Cow::Borrowed(id),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn an_order_counts_among_those_that_have_a_say() {
        let client = ClientId::new();
        let owners = |caps: OpenOrderCaps, customer| caps.owners(client, customer).collect::<Vec<_>>();
        let both = OpenOrderCaps { per_client: Some(1), ..OpenOrderCaps::NONE };
        assert_eq!(owners(OpenOrderCaps::NONE, None), []);
        assert_eq!(owners(OpenOrderCaps::NONE, Some("a")), [OrderOwner::Customer("a")]);
        assert_eq!(owners(both, Some("a")), [OrderOwner::Client(client), OrderOwner::Customer("a")]);
    }

    /// The counts are locked in this order here, and in the order of kind and id there.
    #[test]
    fn owners_are_in_the_order_of_their_names() {
        let clients = [ClientId::new(), ClientId::new(), uuid::Uuid::from_u128(u128::MAX).into()];
        let customers = ["", "A", "Z", "a", "é", "\u{1F600}", "zz"];
        let owners: BTreeSet<OrderOwner<'_>> =
            clients.map(OrderOwner::Client).into_iter().chain(customers.map(OrderOwner::Customer)).collect();
        let names: Vec<(&str, Cow<'_, str>)> = owners.iter().map(|o| (o.kind().as_str(), o.id())).collect();
        assert!(names.is_sorted(), "{names:?}");
    }
}
