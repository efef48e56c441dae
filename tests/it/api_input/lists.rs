//! What holds for every list: the lists are those of the API's own document, so nobody can forget one.

use std::collections::BTreeSet;

use reqwest::Method;
use serde_json::{Value, json};

use super::pointers;
use crate::support::{
    api::{id, send},
    app::TestApp,
};

/// The names of an operation's query parameters.
fn query_parameters(operation: &Value) -> BTreeSet<&str> {
    let parameters = operation["parameters"].as_array().into_iter().flatten();
    let in_query = parameters.filter(|parameter| parameter["in"] == "query");
    in_query.map(|parameter| parameter["name"].as_str().unwrap()).collect()
}

/// The paths of all lists, with ids of what is there. A list is what answers with `data` and `has_more`.
async fn lists(test: &TestApp) -> Vec<String> {
    test.stock("a", 5).await;
    let order_id = test.placed(&[("a", 1)]).await;
    let payment_id = test.paying(&order_id, "pm_card_visa").await;
    let import_id = test.api.import("mode=set", "sku,on_hand\na,5\n").await;
    let hook = json!({ "url": "http://127.0.0.1:9/" });
    let endpoint_id = id(&test.api.post("/v1/webhook-endpoints", &hook).await.expect(201));
    let document = send(test.api.bare(Method::GET, "/openapi.json")).await.expect(200);
    let mut lists = Vec::new();
    for (template, item) in document["paths"].as_object().unwrap() {
        let schema = &item["get"]["responses"]["200"]["content"]["application/json"]["schema"];
        let Some(name) = schema["$ref"].as_str() else { continue };
        let schema = document.pointer(name.trim_start_matches('#')).unwrap();
        if schema["properties"]["has_more"].is_null() {
            continue;
        }
        let names = query_parameters(&item["get"]);
        assert!(names.is_superset(&BTreeSet::from(["limit", "starting_after"])), "{template}: {names:?}");
        let ids = [
            ("orders", &order_id),
            ("payments", &payment_id),
            ("imports", &import_id),
            ("webhook-endpoints", &endpoint_id),
        ];
        let path = ids.iter().fold(template.clone(), |path, (collection, its_id)| {
            path.replace(&format!("/{collection}/{{id}}/"), &format!("/{collection}/{its_id}/"))
        });
        assert!(!path.contains('{'), "{path}");
        lists.push(path);
    }
    assert!(lists.len() > 12, "{lists:?}");
    lists
}

#[tokio::test]
async fn every_list_has_pages_and_refuses_parameters_that_it_does_not_know() {
    let test = TestApp::start().await;
    for path in lists(&test).await {
        for query in ["limit=1", "limit=100", ""] {
            let page = test.api.get(&format!("{path}?{query}")).await.expect(200);
            let shown = page["data"].as_array().unwrap().len();
            assert!(shown <= 1 || query != "limit=1", "{path}: {page}");
            assert!(page["has_more"].is_boolean(), "{path}: {page}");
        }
        for (query, pointer) in [
            ("limit=0", "?limit"),
            ("limit=101", "?limit"),
            ("limit=", "?limit"),
            ("limit=1&limit=1", "?limit"),
            ("starting_after=%20", "?starting_after"),
            ("starting_after=", "?starting_after"),
            ("page=2", "?page"),
            ("Limit=1", "?Limit"),
        ] {
            let answer = test.api.get(&format!("{path}?{query}")).await;
            assert_eq!(pointers(&answer), [pointer], "{path}?{query}: {}", answer.text);
            answer.problem(422, "validation_failed");
        }
    }
    test.finish().await;
}
