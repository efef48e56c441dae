//! Commits that take effect while the way back is cut: what is run again, what is not, and what the client learns.

use holdfast::{
    app::{App, CreateApiKey, Once, RotateApiKey},
    domain::access::Scope,
    store::{Store, StoreOptions},
};
use reqwest::{Method, RequestBuilder};
use serde_json::{Value, json};
use sqlx::{AssertSqlSafe, PgConnection};

use crate::support::{
    PATIENCE,
    api::{Answer, Api, send},
    app::TestApp,
    eventually,
    tcp_proxy::TcpProxy,
};

/// An API whose way to the database can be cut, and a gate before the commits of some of its writes.
struct Doubt {
    test: TestApp,
    app: App,
    api: Api,
    proxy: TcpProxy,
    gate: PgConnection,
}

impl Doubt {
    /// The commit of whoever does this to a row (`INSERT ON api_key`) can be kept waiting.
    async fn start(write: &str) -> Self {
        let mut test = TestApp::start().await;
        let proxy = TcpProxy::start(&test.database.address()).await;
        // Few, so that the tries of a use case outnumber the connections that were cut.
        let url = test.database.url_at(&proxy.address());
        let options = StoreOptions { url, max_connections: 2, ..test.database.options() };
        let app = App { store: Store::connect(&options).await.unwrap(), ..test.app.clone() };
        let api = test.serve(app.clone()).await;
        let mut gate = test.database.connect().await;
        let trigger = format!(
            "CREATE FUNCTION wait_at_gate() RETURNS trigger LANGUAGE plpgsql AS $$
             BEGIN PERFORM pg_advisory_xact_lock_shared(1); RETURN NULL; END $$;
             CREATE CONSTRAINT TRIGGER gate AFTER {write} DEFERRABLE INITIALLY DEFERRED
             FOR EACH ROW EXECUTE FUNCTION wait_at_gate()"
        );
        sqlx::raw_sql(AssertSqlSafe(trigger)).execute(&mut gate).await.unwrap();
        // It knows the key.
        api.get("/v1/orders").await.expect(200);
        Self { test, app, api, proxy, gate }
    }

    /// What comes of a write whose commit was sent, and takes effect, and is not answered.
    async fn lose_answer<T: Send + 'static>(&mut self, write: impl Future<Output = T> + Send + 'static) -> T {
        sqlx::raw_sql("SELECT pg_advisory_lock(1)").execute(&mut self.gate).await.unwrap();
        let write = tokio::spawn(write);
        let waiting = "SELECT count(*) FROM pg_stat_activity
                       WHERE datname = current_database() AND wait_event = 'advisory'";
        let test = &self.test;
        eventually("it waits at the gate", PATIENCE, async || test.count(waiting).await == 1).await;
        self.proxy.cut();
        sqlx::raw_sql("SELECT pg_advisory_unlock(1)").execute(&mut self.gate).await.unwrap();
        write.await.unwrap()
    }

    fn put(&self, path: &str, body: &Value) -> RequestBuilder {
        self.api.request(Method::PUT, path).json(body)
    }

    async fn lose_answer_to(&mut self, request: RequestBuilder) -> Answer {
        self.lose_answer(send(request)).await
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_level_whose_count_may_have_been_taken_is_not_set_again() {
    let mut doubt = Doubt::start("INSERT ON stock_movement").await;
    doubt.test.stock("a", 100).await;
    let path = "/v1/inventory/a/main";
    // With conditions it would meet its own effect; without, it would undo what was sold since.
    let conditional = json!({ "on_hand": 120, "compare_quantity": 100 });
    let conditional = doubt.put(path, &conditional).header("If-Match", "\"1\"");
    let unconditional = doubt.put(path, &json!({ "on_hand": 130 }));
    for (request, on_hand, version) in [(conditional, 120, 2), (unconditional, 130, 3)] {
        doubt.lose_answer_to(request).await.problem(503, "outcome_unknown");
        let api = &doubt.test.api;
        eventually("it is set", PATIENCE, async || api.level("a").await == (on_hand, 0, 0)).await;
        assert_eq!(api.get(path).await.expect(200)["version"], version);
    }
    assert_eq!(doubt.test.count("SELECT count(*) FROM stock_movement").await, 3);
    doubt.test.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_a_purchase_limit_that_may_have_been_set_nobody_is_told_that_nothing_was_changed() {
    let mut doubt = Doubt::start("INSERT OR DELETE ON purchase_limit").await;
    doubt.test.stock("a", 1).await;
    let path = "/v1/purchase-limits/a";
    let set = doubt.put(path, &json!({ "quantity": 2 }));
    let delete = doubt.api.request(Method::DELETE, path);
    for (request, status) in [(set, 200), (delete, 404)] {
        doubt.lose_answer_to(request).await.problem(503, "outcome_unknown");
        let api = &doubt.test.api;
        eventually("it took effect", PATIENCE, async || api.get(path).await.status == status).await;
    }
    doubt.test.finish().await;
}

/// The secret is nowhere but in the first answer: that one must come, however often the transaction is tried.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_new_key_keeps_its_secret_when_the_first_commit_is_not_answered() {
    let mut doubt = Doubt::start("INSERT ON api_key").await;
    let post = |doubt: &Doubt, path: &str, body: Value| {
        doubt.api.request(Method::POST, path).header("Idempotency-Key", "key").json(&body)
    };
    let body = json!({ "name": "shop", "scopes": ["orders:read"] });
    let create = post(&doubt, "/v1/api-keys", body.clone());
    let made = doubt.lose_answer_to(create).await.expect(201);
    let rotate = format!("/v1/api-keys/{}/rotate", made["id"].as_str().unwrap());
    let request = post(&doubt, &rotate, json!({}));
    let rotated = doubt.lose_answer_to(request).await.expect(201);
    for key in [&made, &rotated] {
        let api = doubt.test.api.with_secret(key["secret"].as_str().unwrap());
        api.get("/v1/orders").await.expect(200);
    }
    for (path, body, key) in [("/v1/api-keys", body, &made), (rotate.as_str(), json!({}), &rotated)] {
        let again = send(post(&doubt, path, body)).await;
        assert!(again.replayed() && again.body["secret"].is_null(), "{}", again.text);
        assert_eq!(again.body["id"], key["id"]);
    }
    // The first key of the test, and these two.
    assert_eq!(doubt.test.count("SELECT count(*) FROM api_key").await, 3);
    doubt.test.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_key_made_at_the_command_line_is_made_once() {
    let mut doubt = Doubt::start("INSERT ON api_key").await;
    let create = CreateApiKey { name: "shop".into(), scopes: vec![Scope::OrdersRead] };
    let app = doubt.app.clone();
    let made = doubt.lose_answer(async move { app.create_api_key(&create, None).await }).await;
    let Once::Now(made) = made.unwrap() else { panic!("nothing was made before") };
    let (app, id) = (doubt.app.clone(), made.key.id);
    let rotated =
        doubt.lose_answer(async move { app.rotate_api_key(id, &RotateApiKey::default(), None).await }).await;
    let Once::Now(rotated) = rotated.unwrap() else { panic!("nothing was made before") };
    assert_eq!(rotated.key.client_id, made.key.client_id);
    for secret in [&made.secret, &rotated.secret] {
        doubt.test.api.with_secret(secret).get("/v1/orders").await.expect(200);
    }
    assert_eq!(doubt.test.count("SELECT count(*) FROM api_key").await, 3);
    doubt.test.finish().await;
}
