//! Imports at the API: what is accepted and what is refused, what becomes of each row, dry runs, canceling, lists.

use std::fmt::Write as _;

use futures_util::future::join_all;
use holdfast::{
    domain::{access::Scope, ids::ImportId},
    worker::WorkerKind,
};
use serde_json::{Value, json};

use crate::support::{
    PATIENCE,
    api::{Answer, id},
    app::{Setup, TestApp},
    eventually,
};

const SET: &str = "/v1/inventory/imports?mode=set";

/// Does an import here, to its end. Gives it.
async fn run(test: &TestApp, import_id: &str) -> Value {
    let id: ImportId = import_id.parse().unwrap();
    while test.app.run_stock_import(Some(id)).await.unwrap().is_some() {}
    test.api.get(&format!("/v1/inventory/imports/{import_id}")).await.expect(200)
}

/// `(rows_total, rows_done, rows_applied, rows_failed)` of an import.
fn counters(import: &Value) -> [i64; 4] {
    ["rows_total", "rows_done", "rows_applied", "rows_failed"].map(|name| import[name].as_i64().unwrap())
}

/// The rows of an import, as `row line status: field` of those that failed, and `row line status on_hand_after` of others.
async fn rows(test: &TestApp, import_id: &str, parameters: &str) -> Vec<String> {
    let path = format!("/v1/inventory/imports/{import_id}/rows?limit=100{parameters}");
    let page = test.api.get(&path).await.expect(200);
    let show = |row: &Value| {
        let status = row["status"].as_str().unwrap();
        let errors = row["errors"].as_array().into_iter().flatten();
        let fields: Vec<_> = errors.map(|error| error["field"].as_str().unwrap()).collect();
        let more = if fields.is_empty() { row["on_hand_after"].to_string() } else { fields.join(" ") };
        format!("{} {} {status} {more}", row["row"], row["line"])
    };
    page["data"].as_array().unwrap().iter().map(show).collect()
}

async fn refused(test: &TestApp, parameters: &str, media_type: &str, file: &str) -> Answer {
    test.api.post_file("refused", &format!("/v1/inventory/imports{parameters}"), media_type, file).await
}

#[tokio::test]
async fn a_worker_does_an_import_row_by_row_and_each_row_says_what_became_of_it() {
    let test = TestApp::start_with(Setup { workers: &[WorkerKind::Import], ..Setup::default() }).await;
    test.stock("a", 10).await;
    test.placed(&[("a", 6)]).await;
    test.stock("b", 3).await;
    test.stock("same", 4).await;
    let file = "sku,on_hand,location_id,compare_quantity,low_stock_threshold\n\
                a,5,,,\na,2,north,,\nb,9,,2,\nb2,many,,,\nc,7,,,7\nsame,4,,,\nb,8,,3,\nghost,1,nowhere,5,\n";
    let path = format!("{SET}&reference=stock%20of%20monday");
    let created = test.api.post_file("import", &path, "text/csv; charset=utf-8", file).await;
    let import_id = id(&created.body);
    assert_eq!(created.header("location"), format!("/v1/inventory/imports/{import_id}"));
    let accepted = created.clone().expect(202);
    assert_eq!((&accepted["status"], &accepted["mode"]), (&json!("pending"), &json!("set")));
    assert_eq!((&accepted["reference"], &accepted["dry_run"]), (&json!("stock of monday"), &json!(false)));
    // `b` twice and `many` are wrong whatever the stock is.
    assert_eq!(counters(&accepted), [8, 2, 0, 2]);
    let path = created.header("location").to_owned();
    let done = async || test.api.get(&path).await.expect(200)["status"] == "completed";
    eventually("the import is completed", PATIENCE, done).await;
    let import = test.api.get(&path).await.expect(200);
    assert_eq!(counters(&import), [8, 8, 3, 5]);
    assert!(import["completed_at"].is_string(), "{import}");
    let expected = [
        "1 2 failed on_hand",
        "2 3 applied 2",
        "3 4 failed compare_quantity",
        "4 5 failed on_hand",
        "5 6 applied 7",
        "6 7 applied 4",
        "7 8 failed sku",
        "8 9 failed compare_quantity",
    ];
    assert_eq!(rows(&test, &import_id, "").await, expected);
    let details = test.api.get(&format!("{path}/rows?status=failed&limit=1")).await.expect(200);
    let error = json!([{ "field": "on_hand", "detail": "must be 6 to 1000000000: on_hand is 10, of which 6 are promised to orders" }]);
    assert_eq!((&details["data"][0]["errors"], &details["has_more"]), (&error, &json!(true)));
    // Who, why and what for; nothing of rows that changed nothing or failed.
    let ledger = test.api.get(&format!("/v1/inventory/movements?reference={import_id}")).await.expect(200);
    let movements: Vec<_> = ledger["data"].as_array().unwrap().iter().collect();
    assert_eq!(movements.len(), 2);
    for movement in movements {
        assert_eq!(
            (&movement["type"], &movement["reason"]),
            (&json!("count"), &json!("stock import stock of monday"))
        );
        assert!(movement["actor"].as_str().unwrap().starts_with("key_"), "{movement}");
    }
    assert_eq!(test.count("SELECT count(*) FROM inventory_level WHERE sku IN ('ghost', 'b2')").await, 0);
    assert_eq!(test.count("SELECT count(*) FROM location WHERE id = 'nowhere'").await, 0);
    assert_eq!(test.api.get("/v1/inventory/same/main").await.expect(200)["version"], 1);
    let level = test.api.get("/v1/inventory/c/main").await.expect(200);
    assert_eq!((&level["on_hand"], &level["low_stock_threshold"]), (&json!(7), &json!(7)));
    let of_request =
        "SELECT count(*) FROM outbox WHERE type = 'inventory.adjusted.v1' AND correlation_id LIKE 'req_%'";
    assert_eq!(test.count(of_request).await, 5);
    test.finish().await;
}

#[tokio::test]
async fn deltas_add_up_in_their_order_and_each_has_its_movement() {
    let test = TestApp::start().await;
    test.stock("a", 10).await;
    let lines = [
        r#"{"sku":"a","delta":5}"#,
        r#"{"sku":"a","delta":-15}"#,
        r#"{"sku":"a","delta":-1}"#,
        r#"{"sku":"x","delta":1}"#,
        r#"{"sku":"a","delta":2}"#,
        r#"{"sku":"a","on_hand":2}"#,
        r#"{"sku":"a","delta":-2}"#,
    ];
    let path = "/v1/inventory/imports?mode=delta&location_id=main";
    let created = test.api.post_file("k", path, "application/x-ndjson", &lines.join("\n")).await.expect(202);
    let import_id = id(&created);
    let import = run(&test, &import_id).await;
    assert_eq!(counters(&import), [7, 7, 4, 3]);
    let expected = [
        "1 1 applied 15",
        "2 2 applied 0",
        "3 3 failed delta",
        "4 4 failed sku",
        "5 5 applied 2",
        "6 6 failed on_hand delta",
        "7 7 applied 0",
    ];
    assert_eq!(rows(&test, &import_id, "").await, expected);
    let page = test.api.get(&format!("/v1/inventory/movements?reference={import_id}")).await.expect(200);
    let after: Vec<_> = page["data"].as_array().unwrap().iter().map(|m| m["on_hand_after"].clone()).collect();
    assert_eq!(after, [0, 2, 0, 15]);
    // One change of the level: it was adjusted, and it is out of stock.
    assert_eq!(test.api.get("/v1/inventory/a/main").await.expect(200)["version"], 3);
    // A file whose deltas make up for each other leaves the level as it was, and its ledger tells of it.
    let import_id = test.api.import("mode=delta", "sku,delta\na,3\na,-3\n").await;
    run(&test, &import_id).await;
    let page = test.api.get(&format!("/v1/inventory/movements?reference={import_id}")).await.expect(200);
    assert_eq!(page["data"].as_array().unwrap().len(), 2);
    test.finish().await;
}

#[tokio::test]
async fn a_row_whose_field_has_an_unusable_name_fails_alone() {
    let test = TestApp::start().await;
    let file = "{\"sku\":\"a\",\"on_hand\":1}\n{\"sku\":\"b\",\"on_hand\":1,\"x\\u0000\":1}\n\"\\u0000\"\n";
    let import = test.api.post_file("k", SET, "application/x-ndjson", file).await.expect(202);
    let import_id = id(&import);
    assert_eq!(counters(&run(&test, &import_id).await), [3, 3, 1, 2]);
    assert_eq!(
        rows(&test, &import_id, "").await,
        ["1 1 applied 1", "2 2 failed x\u{fffd}", "3 3 failed row"]
    );
    test.finish().await;
}

#[tokio::test]
async fn a_dry_run_says_what_would_become_of_each_row_and_changes_nothing() {
    let test = TestApp::start().await;
    test.stock("a", 10).await;
    test.placed(&[("a", 4)]).await;
    // More rows than one chunk has: what the first would take, the last cannot.
    let mut deltas = "sku,delta\n".to_owned();
    for row in 0..700 {
        let delta = if row % 100 == 99 { -1 } else { 1 - 2 * (row % 2) };
        writeln!(deltas, "a,{delta}").unwrap();
    }
    deltas.push_str("nobody,1\na,-7\na,-6\n");
    let counts = "sku,on_hand,location_id,compare_quantity\na,3,,\na,5,new,\nb,5,new,0\nb,5,,1\nb,many,,\n";
    for (mode, file) in [("set", counts), ("delta", deltas.as_str())] {
        let before = test.snapshot().await;
        let dry_id = test.api.import(&format!("mode={mode}&dry_run=true"), file).await;
        let dry = run(&test, &dry_id).await;
        let mut after = test.snapshot().await;
        for table in ["stock_import", "stock_import_row", "idempotency_key"] {
            assert_ne!(after.insert(table.into(), before[table].clone()).as_ref(), Some(&before[table]));
        }
        assert_eq!(after, before, "{mode}");
        assert_eq!((&dry["dry_run"], &dry["status"]), (&json!(true), &json!("completed")));
        let real_id = test.api.import(&format!("mode={mode}"), file).await;
        let real = run(&test, &real_id).await;
        assert_eq!(counters(&dry), counters(&real), "{mode}");
        for page in (0..).step_by(100).take_while(|after| *after < counters(&real)[0]) {
            let page = format!("&starting_after={page}");
            assert_eq!(rows(&test, &dry_id, &page).await, rows(&test, &real_id, &page).await);
        }
        assert!(counters(&real)[2] > 1 && counters(&real)[3] > 1, "{real}");
    }
    test.finish().await;
}

#[tokio::test]
async fn an_import_is_stopped_between_two_chunks() {
    let test = TestApp::start().await;
    let mut file = "sku,on_hand\n".to_owned();
    for row in 0..1_200 {
        writeln!(file, "s{row},1").unwrap();
    }
    let import_id = test.api.import("mode=set", &file).await;
    let path = format!("/v1/inventory/imports/{import_id}");
    let chunk = test.app.run_stock_import(None).await.unwrap().unwrap();
    assert_eq!((chunk.rows_done, chunk.rows_applied), (500, 500));
    let running = test.api.get(&path).await.expect(200);
    assert_eq!((&running["status"], counters(&running)), (&json!("running"), [1200, 500, 500, 0]));
    let cancel = async |key: &str| test.api.post_as(key, &format!("{path}/cancel"), &json!({})).await;
    let canceled = cancel("stop").await.expect(200);
    assert_eq!((&canceled["status"], counters(&canceled)), (&json!("canceled"), [1200, 500, 500, 0]));
    assert!(cancel("stop").await.replayed());
    let refused = cancel("again").await.problem(409, "invalid_state_transition");
    assert_eq!((&refused["current_status"], &refused["allowed"]), (&json!("canceled"), &json!([])));
    assert_eq!(test.app.run_stock_import(None).await.unwrap(), None);
    assert_eq!(
        rows(&test, &import_id, "&status=pending&starting_after=1199").await,
        ["1200 1201 pending null"]
    );
    assert_eq!(test.count("SELECT count(*) FROM inventory_level").await, 500);
    let small = test.api.import("mode=set", "sku,on_hand\na,1\n").await;
    run(&test, &small).await;
    let late = test.api.post(&format!("/v1/inventory/imports/{small}/cancel"), &json!({})).await;
    late.problem(409, "invalid_state_transition");
    for id in ["imp_019ab1c2d3e47f5a8b6c7d8e9f0a1b2c", "x"] {
        let path = format!("/v1/inventory/imports/{id}");
        test.api.post(&format!("{path}/cancel"), &json!({})).await.problem(404, "not_found");
        test.api.get(&path).await.problem(404, "not_found");
        test.api.get(&format!("{path}/rows")).await.problem(404, "not_found");
    }
    test.finish().await;
}

#[tokio::test]
async fn an_import_counts_once() {
    let mut test = TestApp::start().await;
    let other = test.another_api().await;
    let file = "sku,on_hand\na,1\n";
    let post =
        async |key: &str, path: &str, file: &str| test.api.post_file(key, path, "text/csv", file).await;
    let apis = [&test.api, &other];
    let twins = join_all((0..8).map(|n| apis[n % 2].post_file("twin", SET, "text/csv", file))).await;
    for twin in &twins {
        assert!(twin.status == 202 || twin.code() == "idempotency_key_in_use", "{}", twin.text);
    }
    assert_eq!(test.count("SELECT count(*) FROM stock_import").await, 1);
    let again = post("twin", SET, file).await;
    assert!(again.replayed() && again.header("location").ends_with(&id(&again.body)), "{again:?}");
    for (path, file) in [
        (SET, "sku,on_hand\na,1"),
        (SET, "sku,on_hand\na,2\n"),
        ("/v1/inventory/imports?mode=set&dry_run=true", file),
        ("/v1/inventory/imports?mode=set&location_id=north", file),
    ] {
        post("twin", path, file).await.problem(422, "idempotency_key_reused");
    }
    assert_eq!(test.count("SELECT count(*) FROM stock_import_row").await, 1);
    test.finish().await;
}

#[tokio::test]
async fn a_file_that_is_wrong_as_a_whole_is_refused() {
    let test = TestApp::start().await;
    let before = test.snapshot().await;
    let good = "sku,on_hand\na,1\n";
    for (parameters, file, pointer) in [
        ("", good, "?mode"),
        ("?mode=add", good, "?mode"),
        ("?mode=set&dry_run=maybe", good, "?dry_run"),
        ("?mode=set&location_id=a%20b", good, "?location_id"),
        ("?mode=set&reference=", good, "?reference"),
        ("?mode=set&sku=a", good, "?sku"),
    ] {
        let problem = refused(&test, parameters, "text/csv", file).await.problem(422, "validation_failed");
        assert_eq!(problem["errors"][0]["pointer"], pointer, "{problem}");
    }
    for (parameters, file, pointer) in [
        ("?mode=set", "", "body"),
        ("?mode=set", "sku,on_hand\n", "body"),
        ("?mode=set", "sku,count\na,1\n", "column \"count\""),
        ("?mode=delta", good, "column \"on_hand\""),
    ] {
        let problem = refused(&test, parameters, "text/csv", file).await.problem(422, "stock_file_invalid");
        assert_eq!(problem["errors"][0]["pointer"], pointer, "{problem}");
    }
    for media_type in ["application/json", "text/plain", "application/csv", ""] {
        let problem = refused(&test, "?mode=set", media_type, good).await;
        let problem = problem.problem(415, "unsupported_media_type");
        assert_eq!(problem["errors"][0]["pointer"], "Content-Type");
    }
    let zipped = test.api.request(reqwest::Method::POST, SET).header("Idempotency-Key", "k");
    let zipped = zipped.header("Content-Type", "text/csv").header("Content-Encoding", "gzip").body(good);
    let problem = crate::support::api::send(zipped).await.problem(415, "unsupported_media_type");
    assert_eq!(problem["errors"][0]["pointer"], "Content-Encoding");
    let limit = 16 * 1024 * 1024;
    let large = format!("{good}{}", " ".repeat(limit - good.len() + 1));
    refused(&test, "?mode=set", "text/csv", &large).await.problem(413, "body_too_large");
    let many = format!("sku,on_hand\n{}", "a,1\n".repeat(200_001));
    let problem = refused(&test, "?mode=set", "text/csv", &many).await.problem(422, "stock_file_invalid");
    assert_eq!(problem["errors"][0]["detail"], "must hold at most 200000 rows");
    let reader = test.api.with_secret(&test.new_key("reader", &[Scope::OrdersRead]).await.secret);
    reader.post_file("k", SET, "text/csv", good).await.problem(403, "insufficient_scope");
    let unkeyed = test.api.request(reqwest::Method::POST, SET).header("Content-Type", "text/csv").body(good);
    crate::support::api::send(unkeyed).await.problem(400, "idempotency_key_missing");
    let mut after = test.snapshot().await;
    after.insert("api_key".into(), before["api_key"].clone());
    assert_eq!(after, before);
    // Up to the limit it is read.
    let spaced = format!("{}{}", good, "\n".repeat(limit - good.len()));
    refused(&test, "?mode=set", "text/csv", &spaced).await.expect(202);
    test.finish().await;
}

#[tokio::test]
async fn imports_are_listed_the_newest_first() {
    let test = TestApp::start().await;
    let mut ids = Vec::new();
    for _ in 0..3 {
        ids.insert(0, test.api.import("mode=set", "sku,on_hand\na,1\n").await);
    }
    run(&test, &ids[1]).await;
    let listed = async |query: &str| -> Vec<String> {
        let page = test.api.get(&format!("/v1/inventory/imports?{query}")).await.expect(200);
        page["data"].as_array().unwrap().iter().map(id).collect()
    };
    assert_eq!(listed("").await, ids);
    assert_eq!(listed("limit=2").await, ids[..2]);
    assert_eq!(listed(&format!("limit=2&starting_after={}", ids[1])).await, ids[2..]);
    assert_eq!(listed("status=completed").await, ids[1..2]);
    for (query, pointer) in [
        ("status=done", "?status"),
        ("starting_after=1", "?starting_after"),
        ("limit=0", "?limit"),
        ("mode=set", "?mode"),
    ] {
        let problem = test.api.get(&format!("/v1/inventory/imports?{query}")).await;
        assert_eq!(problem.problem(422, "validation_failed")["errors"][0]["pointer"], pointer);
    }
    for (query, pointer) in
        [("status=done", "?status"), ("starting_after=a", "?starting_after"), ("x=", "?x")]
    {
        let problem = test.api.get(&format!("/v1/inventory/imports/{}/rows?{query}", ids[0])).await;
        assert_eq!(problem.problem(422, "validation_failed")["errors"][0]["pointer"], pointer);
    }
    test.finish().await;
}
