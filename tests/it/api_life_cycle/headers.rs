//! `Location`, `ETag` and `If-Match`: where a new thing is, in which version an order is, and writes that are meant for one
//! version only.

use futures_util::future::join_all;
use reqwest::Method;
use serde_json::{Value, json};

use super::{shop, units};
use crate::support::{
    api::{Answer, id, order, payment, send},
    app::TestApp,
};

impl TestApp {
    /// Posts for the version of the thing that the entity tag names.
    async fn ask_version(&self, tag: &str, key: &str, path: &str, body: &Value) -> Answer {
        let request = self.api.request(Method::POST, path).header("Idempotency-Key", key);
        send(request.header("If-Match", tag).json(body)).await
    }

    /// That the thing is where the answer says, and that the same request again gets the same headers.
    async fn finds_and_repeats(&self, path: &str, body: &Value, collection: &str) -> Answer {
        let first = self.api.post_as("k", path, body).await;
        let location = format!("{collection}/{}", id(&first.body));
        assert_eq!(first.header("location"), location, "{path}: {}", first.text);
        assert_eq!(id(&self.api.get(&location).await.expect(200)), id(&first.body));
        let again = self.api.post_as("k", path, body).await;
        assert!(again.replayed(), "{path}");
        for header in ["location", "etag"] {
            assert_eq!(again.headers.get(header), first.headers.get(header), "{path}");
        }
        first
    }
}

#[tokio::test]
async fn a_new_thing_is_where_its_answer_says() {
    let test = shop().await;
    let placed = test.finds_and_repeats("/v1/orders", &order(&[("a", 2)]), "/v1/orders").await;
    assert_eq!(placed.header("etag"), "\"1\"");
    let path = |what: &str| format!("/v1/orders/{}/{what}", id(&placed.body));
    let paid = test.finds_and_repeats(&path("payments"), &payment("pm_card_visa"), "/v1/payments").await;
    test.pump("payment").await;
    test.finds_and_repeats(&path("shipments"), &json!({}), "/v1/shipments").await;
    let refunds = format!("/v1/payments/{}/refunds", id(&paid.body));
    test.finds_and_repeats(&refunds, &json!({ "amount": 1 }), "/v1/refunds").await;
    let key = json!({ "name": "shop", "scopes": ["orders:read"] });
    let key = test.finds_and_repeats("/v1/api-keys", &key, "/v1/api-keys").await;
    let rotate = format!("/v1/api-keys/{}/rotate", id(&key.body));
    test.finds_and_repeats(&rotate, &json!({}), "/v1/api-keys").await;
    test.api.get("/v1/refunds/ref_00000000000000000000000000000000").await.problem(404, "not_found");
    test.api.get("/v1/api-keys/key_00000000000000000000000000000000").await.problem(404, "not_found");
    test.settle_and_finish().await;
}

#[tokio::test]
async fn the_entity_tag_of_an_order_is_its_version() {
    let test = shop().await;
    let placed = test.api.place(&[("a", 2)]).await;
    let path = format!("/v1/orders/{}", id(&placed.body));
    let extended =
        test.api.post_as("e", &format!("{path}/reservation/extend"), &json!({ "seconds": 9 })).await;
    let read = test.api.get(&path).await;
    assert_eq!(
        [placed.header("etag"), extended.header("etag"), read.header("etag")],
        ["\"1\"", "\"2\"", "\"2\""]
    );
    let canceled = test.api.cancel(&id(&placed.body)).await;
    assert_eq!((canceled.header("etag"), &canceled.body["version"]), ("\"3\"", &json!(3)));
    // What was answered then is answered again.
    let again = test.api.post_as("e", &format!("{path}/reservation/extend"), &json!({ "seconds": 9 })).await;
    assert_eq!((again.header("etag"), again.replayed()), ("\"2\"", true));
    test.settle_and_finish().await;
}

#[tokio::test]
async fn a_write_for_another_version_changes_nothing() {
    let test = shop().await;
    let placed = test.api.place(&[("a", 4)]).await.expect(201);
    let before = test.snapshot().await;
    let path = |what: &str| format!("/v1/orders/{}/{what}", id(&placed));
    for (what, body) in [
        ("cancel", json!({})),
        ("reservation/extend", json!({ "seconds": 1 })),
        ("payments", payment("pm_card_visa")),
        ("shipments", json!({})),
    ] {
        for tag in ["\"2\"", "\"0\", \"7\"", "W/\"1\""] {
            let refused = test.ask_version(tag, "k", &path(what), &body).await;
            assert_eq!(refused.problem(412, "version_conflict")["current_version"], 1, "{what}");
        }
        let wrong = test.ask_version("1", "k", &path(what), &body).await;
        wrong.problem(400, "if_match_invalid");
    }
    assert_eq!(test.snapshot().await, before);
    // Of what was refused under the key nothing is stored; and what took effect is answered again, whatever the version.
    for replayed in [false, true] {
        let answer =
            test.ask_version("\"1\"", "k", &path("reservation/extend"), &json!({ "seconds": 1 })).await;
        assert_eq!((answer.status, answer.replayed()), (200, replayed), "{}", answer.text);
    }
    test.ask_version("*", "any", &path("cancel"), &json!({})).await.expect(200);
    test.settle_and_finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_many_writes_for_one_version_one_takes_effect() {
    let test = shop().await;
    let placed = test.api.place(&[("a", 9)]).await.expect(201);
    let path = format!("/v1/orders/{}/cancel", id(&placed));
    let one = json!({ "lines": units(&placed, &[(0, 1)]) });
    let keys: Vec<String> = (0..8).map(|number| number.to_string()).collect();
    let answers = join_all(keys.iter().map(|key| test.ask_version("\"1\"", key, &path, &one))).await;
    let (done, refused): (Vec<_>, Vec<_>) = answers.into_iter().partition(|answer| answer.status == 200);
    assert_eq!(done.len(), 1);
    for answer in refused {
        answer.problem(412, "version_conflict");
    }
    test.settle_and_finish().await;
}
