//! Where answers lead: the links of the OpenAPI document, so that a client, or a test that walks by them, knows which
//! operations take what an answer tells.

use serde_json::Value;
use utoipa::openapi::{
    OpenApi,
    link::{Link, LinkBuilder},
};

use super::openapi::operations;

/// Answers of some operations, and the operations that take what they tell.
struct Lead {
    from: &'static [&'static str],
    /// Parameters of the target, and where the answer has their values.
    parameters: &'static [(&'static str, &'static str)],
    to: &'static [&'static str],
}

const ID: &[(&str, &str)] = &[("id", "$response.body#/id")];
const ORDER_ID: &[(&str, &str)] = &[("id", "$response.body#/order_id")];
const PAYMENT_ID: &[(&str, &str)] = &[("id", "$response.body#/payment_id")];
const PAYMENT_QUERY: &[(&str, &str)] = &[("payment_id", "$response.body#/payment_id")];
const LEVEL: &[(&str, &str)] = &[("sku", "$response.body#/sku"), ("location", "$response.body#/location_id")];
const LEVEL_QUERY: &[(&str, &str)] =
    &[("sku", "$response.body#/sku"), ("location_id", "$response.body#/location_id")];
const SKU: &[(&str, &str)] = &[("sku", "$response.body#/sku")];
const SAME_SKU: &[(&str, &str)] = &[("sku", "$request.path.sku")];

const TO_ORDER: &[&str] = &[
    "read_order",
    "cancel_order",
    "extend_reservation",
    "start_payment",
    "list_payments_of_order",
    "list_events_of_order",
    "create_shipment",
    "list_shipments_of_order",
];
const TO_PAYMENT: &[&str] =
    &["read_payment", "capture_payment", "void_payment", "refund_payment", "list_refunds_of_payment"];
const TO_SHIPMENT: &[&str] = &[
    "read_shipment",
    "pack_shipment",
    "ship_shipment",
    "deliver_shipment",
    "cancel_shipment",
    "return_shipment",
];
const TO_IMPORT: &[&str] = &["read_stock_import", "list_stock_import_rows", "cancel_stock_import"];
const TO_KEY: &[&str] = &["read_api_key", "rotate_api_key", "revoke_api_key"];

const TO_ENDPOINT: &[&str] = &[
    "read_webhook_endpoint",
    "set_webhook_endpoint",
    "rotate_webhook_secret",
    "disable_webhook_endpoint",
    "enable_webhook_endpoint",
    "test_webhook_endpoint",
    "list_webhook_deliveries",
    "delete_webhook_endpoint",
];
const TO_DELIVERY: &[&str] = &["read_webhook_delivery", "redeliver_webhook"];

const LEADS: &[Lead] = &[
    Lead {
        from: &["place_order", "read_order", "cancel_order", "extend_reservation"],
        parameters: ID,
        to: TO_ORDER,
    },
    Lead {
        from: &["start_payment", "read_payment", "capture_payment", "void_payment"],
        parameters: ID,
        to: TO_PAYMENT,
    },
    Lead {
        from: &["start_payment", "create_shipment"],
        parameters: ORDER_ID,
        to: &["read_order", "create_shipment", "cancel_order"],
    },
    Lead { from: &["refund_payment"], parameters: ID, to: &["read_refund"] },
    Lead {
        from: &["refund_payment"],
        parameters: PAYMENT_ID,
        to: &["read_payment", "list_refunds_of_payment"],
    },
    Lead { from: &["refund_payment"], parameters: PAYMENT_QUERY, to: &["list_refunds"] },
    Lead {
        from: &[
            "create_shipment",
            "read_shipment",
            "pack_shipment",
            "ship_shipment",
            "deliver_shipment",
            "cancel_shipment",
        ],
        parameters: ID,
        to: TO_SHIPMENT,
    },
    Lead { from: &["set_level", "read_level"], parameters: LEVEL, to: &["read_level", "set_level"] },
    Lead { from: &["set_level", "read_level"], parameters: LEVEL_QUERY, to: &["list_stock_movements"] },
    Lead { from: &["set_level"], parameters: SKU, to: &["list_levels", "set_purchase_limit"] },
    Lead { from: &["create_stock_import", "read_stock_import"], parameters: ID, to: TO_IMPORT },
    Lead { from: &["set_location"], parameters: ID, to: &["read_location", "set_location"] },
    Lead {
        from: &["set_purchase_limit"],
        parameters: SKU,
        to: &["read_purchase_limit", "delete_purchase_limit"],
    },
    Lead { from: &["delete_purchase_limit"], parameters: SAME_SKU, to: &["read_purchase_limit"] },
    Lead {
        from: &[
            "create_webhook_endpoint",
            "read_webhook_endpoint",
            "set_webhook_endpoint",
            "enable_webhook_endpoint",
            "disable_webhook_endpoint",
        ],
        parameters: ID,
        to: TO_ENDPOINT,
    },
    Lead { from: &["test_webhook_endpoint", "redeliver_webhook"], parameters: ID, to: TO_DELIVERY },
    Lead { from: &["create_api_key", "rotate_api_key", "read_api_key"], parameters: ID, to: TO_KEY },
];

/// Adds the links to the answers that they go out from.
pub(super) fn add(document: &mut OpenApi) {
    for (_, operation) in operations(document) {
        let name = operation.operation_id.clone().unwrap_or_default();
        let response = operation.responses.responses.iter_mut().find(|(status, _)| status.starts_with('2'));
        let Some((_, utoipa::openapi::RefOr::T(response))) = response else { continue };
        for lead in LEADS.iter().filter(|lead| lead.from.contains(&name.as_str())) {
            for to in lead.to {
                response.links.insert((*to).to_owned(), link(to, lead.parameters).into());
            }
        }
    }
}

fn link(to: &str, parameters: &[(&str, &str)]) -> Link {
    let link = LinkBuilder::new().operation_id(to);
    parameters
        .iter()
        .fold(link, |link, (name, expression)| link.parameter(*name, Value::from(*expression)))
        .build()
}

#[cfg(test)]
mod tests {
    use std::{collections::BTreeSet, time::Duration};

    use super::*;
    use crate::http::{body::BodyLimits, routes};

    #[test]
    fn a_link_leads_from_an_operation_to_one_that_takes_its_parameters() {
        let (_, mut document) = routes(BodyLimits { bytes: 0, time: Duration::ZERO }).split_for_parts();
        let mut takes = std::collections::BTreeMap::new();
        for (_, operation) in operations(&mut document) {
            let names: BTreeSet<String> = operation
                .parameters
                .iter()
                .flatten()
                .filter_map(|parameter| match parameter {
                    utoipa::openapi::RefOr::T(parameter) => Some(parameter.name.clone()),
                    utoipa::openapi::RefOr::Ref(_) => None,
                })
                .collect();
            takes.insert(operation.operation_id.clone().expect("an id"), names);
        }
        for lead in LEADS {
            for from in lead.from {
                assert!(takes.contains_key(*from), "{from}");
            }
            for to in lead.to {
                let names = takes.get(*to).unwrap_or_else(|| panic!("{to}"));
                for (parameter, _) in lead.parameters {
                    assert!(names.contains(*parameter), "{to} {parameter}");
                }
            }
        }
    }
}
