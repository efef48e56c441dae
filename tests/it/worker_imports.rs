//! The import worker: each row is done once, however many workers there are and whenever they are killed, and a row that cannot
//! be written holds nobody up.

use std::fmt::Write as _;

use holdfast::{app::App, domain::ids::ImportId, worker::WorkerKind};
use reqwest::header::CONTENT_TYPE;
use serde_json::Value;
use sqlx::{AssertSqlSafe, Connection as _};

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
    let work = async |app: &App, id: Option<&str>| {
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

/// Refuses changes of the levels of these SKUs, as a constraint would (`check_violation`) or as a bug of the server (`XX000`).
async fn refuse(test: &TestApp, code: &str, when: &str) {
    let trigger = format!(
        "CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$
         BEGIN RAISE EXCEPTION 'refused' USING ERRCODE = '{code}'; END $$;
         CREATE TRIGGER refuse BEFORE UPDATE ON inventory_level
         FOR EACH ROW WHEN ({when}) EXECUTE FUNCTION refuse()"
    );
    sqlx::raw_sql(AssertSqlSafe(trigger)).execute(&mut *test.conn().await).await.unwrap();
}

/// The SKUs of the rows that failed, where the row as a whole is to blame.
async fn failed_rows(test: &TestApp, import_id: &str) -> Vec<String> {
    let path = format!("/v1/inventory/imports/{import_id}/rows?status=failed&limit=100");
    let rows = test.api.get(&path).await.expect(200);
    let rows = rows["data"].as_array().unwrap();
    assert!(rows.iter().all(|row| row["errors"][0]["field"] == "row"), "{rows:?}");
    rows.iter().map(|row| row["sku"].as_str().unwrap().to_owned()).collect()
}

#[tokio::test]
async fn a_row_that_cannot_be_written_fails_alone() {
    let test = TestApp::start_with(Setup { workers: &[WorkerKind::Import], ..Setup::default() }).await;
    refuse(&test, "check_violation", "NEW.sku IN ('s3', 's700')").await;
    let file = (0..900).fold("sku,on_hand\n".to_owned(), |file, row| file + &format!("s{row},1\n"));
    let import_id = test.api.import("mode=set", &file).await;
    let import = completed(&test, &import_id).await;
    assert_eq!((&import["rows_applied"], &import["rows_failed"]), (&898.into(), &2.into()));
    assert_eq!(failed_rows(&test, &import_id).await, ["s3", "s700"]);
    test.finish().await;
}

/// The worker that meets the row is paused in its last try, and an older import is free again when it goes on.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_row_that_cannot_be_written_fails_no_row_of_an_older_import() {
    let test = TestApp::start().await;
    let healthy = test.api.import("mode=set", "sku,on_hand\na,1\nb,1\n").await;
    let broken = test.api.import("mode=set", "sku,on_hand\nbad,1\nc,1\n").await;
    // 500, 250, 125, 62, 31, 15, 7, 3 rows, and last 1.
    let trigger = "CREATE SEQUENCE tries;
        CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$
        BEGIN
            IF nextval('tries') = 9 THEN PERFORM pg_advisory_xact_lock(1); END IF;
            RAISE EXCEPTION 'refused' USING ERRCODE = 'check_violation';
        END $$;
        CREATE TRIGGER refuse BEFORE UPDATE ON inventory_level
        FOR EACH ROW WHEN (NEW.sku = 'bad') EXECUTE FUNCTION refuse()";
    sqlx::raw_sql(trigger).execute(&mut *test.conn().await).await.unwrap();
    let mut other_worker = test.database.connect().await;
    let mut gate = test.database.connect().await;
    let claim = "BEGIN; SELECT 1 FROM stock_import ORDER BY id LIMIT 1 FOR UPDATE";
    sqlx::raw_sql(claim).execute(&mut other_worker).await.unwrap();
    sqlx::raw_sql("SELECT pg_advisory_lock(1)").execute(&mut gate).await.unwrap();
    let app = test.app.clone();
    let step = tokio::spawn(async move { app.run_stock_import(None).await.unwrap() });
    let waiting = "SELECT count(*) FROM pg_stat_activity
                   WHERE datname = current_database() AND wait_event = 'advisory'";
    eventually("the last try is made", PATIENCE, async || test.count(waiting).await == 1).await;
    sqlx::raw_sql("ROLLBACK").execute(&mut other_worker).await.unwrap();
    sqlx::raw_sql("SELECT pg_advisory_unlock(1)").execute(&mut gate).await.unwrap();
    assert_eq!(step.await.unwrap().unwrap().id.to_string(), broken);
    while test.app.run_stock_import(None).await.unwrap().is_some() {}
    assert_eq!(failed_rows(&test, &healthy).await, Vec::<String>::new());
    assert_eq!(failed_rows(&test, &broken).await, ["bad"]);
    test.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_several_workers_at_one_import_none_fails_a_row_that_can_be_written() {
    let test = TestApp::start().await;
    let other = test.another_app().await;
    refuse(&test, "check_violation", "NEW.sku LIKE 'bad%'").await;
    let file: String =
        (0..20).fold("sku,on_hand\n".into(), |file, row| file + &format!("bad{row},1\ns{row},1\n"));
    let import_id = test.api.import("mode=set", &file).await;
    let unfinished = "SELECT count(*) FROM stock_import WHERE status <> 'completed'";
    let work = async |app: &App| {
        while test.count(unfinished).await > 0 {
            app.run_stock_import(None).await.unwrap();
        }
    };
    tokio::join!(work(&test.app), work(&other), work(&test.app), work(&other));
    let expected: Vec<String> = (0..20).map(|row| format!("bad{row}")).collect();
    assert_eq!(failed_rows(&test, &import_id).await, expected);
    other.locks.close().await;
    other.store.close().await;
    test.finish().await;
}

#[tokio::test]
async fn what_has_nothing_to_do_with_the_rows_fails_none_of_them() {
    let test = TestApp::start().await;
    let import_id = test.api.import("mode=set", "sku,on_hand\na,1\nb,1\n").await;
    // A bug of the server, a privilege that is missing.
    for code in ["XX000", "42501"] {
        refuse(&test, code, "true").await;
        test.app.run_stock_import(None).await.unwrap_err();
        assert_eq!(test.count("SELECT count(*) FROM stock_import_row WHERE status = 'pending'").await, 2);
        let mended = "DROP TRIGGER refuse ON inventory_level; DROP FUNCTION refuse";
        sqlx::raw_sql(mended).execute(&mut *test.conn().await).await.unwrap();
    }
    assert_eq!(test.app.run_stock_import(None).await.unwrap().unwrap().rows_applied, 2);
    completed(&test, &import_id).await;
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
