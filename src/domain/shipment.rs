//! Shipments: their life.

use super::status::status;

status! {
    /// The life of a shipment.
    ShipmentStatus {
        /// To be packed.
        Pending = "pending" => [Packed, Canceled],
        /// Packed, still in the building.
        Packed = "packed" => [Shipped, Canceled],
        /// On its way: the stock has left.
        Shipped = "shipped" => [Delivered],
        /// With the customer.
        Delivered = "delivered" => [Returned],
        /// Back again.
        Returned = "returned" => [],
        /// Never left.
        Canceled = "canceled" => [],
    }
}

#[cfg(test)]
mod tests {
    use super::ShipmentStatus::{self, Canceled, Delivered, Packed, Pending, Returned, Shipped};

    #[test]
    fn the_whole_transition_table() {
        let allowed = [
            (Pending, Packed),
            (Pending, Canceled),
            (Packed, Shipped),
            (Packed, Canceled),
            (Shipped, Delivered),
            (Delivered, Returned),
        ];
        for &from in ShipmentStatus::ALL {
            for &to in ShipmentStatus::ALL {
                assert_eq!(from.may_become(to), allowed.contains(&(from, to)), "{from} to {to}");
            }
        }
    }
}
