//! The import worker: each row is done once, however many workers there are and whenever they are killed, and a row that cannot
//! be written holds nobody up.

use std::fmt::Write as _;

use holdfast::{domain::ids::ImportId, worker::WorkerKind};
use reqwest::header::CONTENT_TYPE;
use serde_json::Value;
use sqlx::Connection as _;

use crate::support::{
    PATIENCE,
    app::{Setup, TestApp},
    eventually,
    system::{Servers, System},
};

/// So many rows of a delta for each of these SKUs in turn.
fn deltas(skus: usize, rows: usize, delta: impl Fn(usize) -> i64) -> String {
    let mut file = "sku,delta\n".to_owned();
    for row in 0..rows {
        writeln!(file, "s{},{}", row % skus, delta(row)).unwrap();
    }
    file
}

async fn completed(test: &TestApp, import_id: &str) -> Value {
    let path = format!("/v1/inventory/imports/{import_id}");
    let done = async || test.api.get(&path).await.expect(200)["status"] == "completed";
    eventually("the import is completed", PATIENCE, done).await;
    test.api.get(&path).await.expect(200)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_workers_do_each_row_once() {
    let test = TestApp::start().await;
    let stock: String = (0..20).fold("sku,on_hand\n".into(), |file, sku| file + &format!("s{sku},100\n"));
    let first = test.api.import("mode=set", &stock).await;
    test.app.run_stock_import(None).await.unwrap();
    completed(&test, &first).await;
    // Chunks of two imports want the same levels at a time, and in another order.
    let up = test.api.import("mode=delta", &deltas(20, 2_400, |_| 1)).await;
    let down =
        test.api.import("mode=delta", &deltas(20, 2_400, |row| if row < 1_200 { 3 } else { -3 })).await;
    let other = test.another_app().await;
    let work = async |app: &holdfast::app::App, id: Option<&str>| {
        let id = id.map(|id| id.parse::<ImportId>().unwrap());
        while test.count("SELECT count(*) FROM stock_import WHERE status IN ('pending', 'running')").await > 0
        {
            app.run_stock_import(id).await.unwrap();
        }
    };
    tokio::join!(
        work(&test.app, None),
        work(&other, None),
        work(&test.app, Some(&up)),
        work(&other, Some(&down)),
        work(&other, Some(&up)),
    );
    for id in [&up, &down] {
        assert_eq!(completed(&test, id).await["rows_applied"], 2_400);
    }
    assert_eq!(test.count("SELECT count(*) FROM inventory_level WHERE on_hand = 220").await, 20);
    let movements = "SELECT count(*) FROM stock_movement WHERE type = 'adjust'";
    assert_eq!(test.count(movements).await, 4_800);
    other.locks.close().await;
    other.store.close().await;
    test.finish().await;
}

#[tokio::test]
async fn a_row_that_cannot_be_written_fails_alone() {
    let test = TestApp::start_with(Setup { workers: &[WorkerKind::Import], ..Setup::default() }).await;
    let trigger = "CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$
                   BEGIN RAISE EXCEPTION 'a bug of ours'; END $$;
                   CREATE TRIGGER refuse BEFORE UPDATE ON inventory_level
                   FOR EACH ROW WHEN (NEW.sku IN ('s3', 's700')) EXECUTE FUNCTION refuse()";
    sqlx::raw_sql(trigger).execute(&mut *test.conn().await).await.unwrap();
    let file = (0..900).fold("sku,on_hand\n".to_owned(), |file, row| file + &format!("s{row},1\n"));
    let import_id = test.api.import("mode=set", &file).await;
    let import = completed(&test, &import_id).await;
    assert_eq!((&import["rows_applied"], &import["rows_failed"]), (&898.into(), &2.into()));
    let rows =
        test.api.get(&format!("/v1/inventory/imports/{import_id}/rows?status=failed")).await.expect(200);
    let failed: Vec<_> = rows["data"].as_array().unwrap().iter().map(|row| row["sku"].clone()).collect();
    assert_eq!(failed, ["s3", "s700"]);
    assert_eq!(rows["data"][0]["errors"][0]["field"], "row");
    test.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_import_goes_on_where_a_killed_worker_left_it() {
    let system = System::start(Servers::Neither, &[("HOLDFAST__WORKER__IMPORT__INTERVAL_MS", "20")]).await;
    system.api("api").await;
    let stock: String = (0..50).fold("sku,on_hand\n".into(), |file, sku| file + &format!("s{sku},7\n"));
    system.import_stock(&stock).await;
    let url = format!("{}/v1/inventory/imports?mode=delta", system.url("api"));
    let request = system.http.post(url).bearer_auth(&system.key).header("Idempotency-Key", "import");
    let request = request.header(CONTENT_TYPE, "text/csv").body(deltas(50, 40_000, |_| 1));
    assert_eq!(request.send().await.unwrap().status(), 202);
    let done = async || {
        let done = "SELECT rows_applied + rows_failed FROM stock_import WHERE mode = 'delta'";
        sqlx::query_scalar::<_, i32>(done).fetch_one(&system.database).await.unwrap()
    };
    let workers = ["worker-import-a", "worker-import-b"];
    for name in workers {
        system.worker(name, &["import"]);
    }
    let mut kills = 0;
    while done().await < 40_000 {
        let before = done().await;
        let further = async || done().await > before || before == 40_000;
        eventually("the import goes on", PATIENCE, further).await;
        if kills < 12 {
            system.crash(workers[kills % 2]);
            kills += 1;
        }
    }
    assert!(kills >= 3, "{kills}");
    assert_eq!(system.count("SELECT count(*) FROM inventory_level WHERE on_hand = 807").await, 50);
    assert_eq!(system.count("SELECT count(*) FROM stock_movement WHERE type = 'adjust'").await, 40_000);
    assert_eq!(system.count("SELECT count(*) FROM stock_import WHERE status = 'completed'").await, 2);
    // Events wait for a relay, which does not run here.
    sqlx::query("DELETE FROM outbox").execute(&system.database).await.unwrap();
    system.assert_clean().await;
}

/// A chunk that waits for a level is not done twice by another worker, and a cancel waits for it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_chunk_under_way_keeps_others_from_its_import() {
    let test = TestApp::start().await;
    test.stock("s0", 1).await;
    let import_id = test.api.import("mode=delta", "sku,delta\ns0,1\n").await;
    let mut lock = test.database.connect().await;
    sqlx::raw_sql("BEGIN; SELECT 1 FROM inventory_level FOR UPDATE").execute(&mut lock).await.unwrap();
    let app = test.app.clone();
    let waiting = tokio::spawn(async move { app.run_stock_import(None).await.unwrap() });
    let blocked = "SELECT count(*) FROM pg_stat_activity
                   WHERE datname = current_database() AND wait_event_type = 'Lock'";
    eventually("the chunk waits for its level", PATIENCE, async || test.count(blocked).await == 1).await;
    assert_eq!(test.app.run_stock_import(None).await.unwrap(), None);
    let cancel = {
        let (api, path) = (test.api.clone(), format!("/v1/inventory/imports/{import_id}/cancel"));
        tokio::spawn(async move { api.post(&path, &serde_json::json!({})).await })
    };
    eventually("the cancel waits for the chunk", PATIENCE, async || test.count(blocked).await == 2).await;
    lock.close().await.unwrap();
    assert_eq!(waiting.await.unwrap().unwrap().rows_applied, 1);
    cancel.await.unwrap().problem(409, "invalid_state_transition");
    assert_eq!(test.api.level("s0").await, (2, 0, 0));
    test.finish().await;
}
