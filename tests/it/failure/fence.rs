//! The fence, and the fence alone, stops a lock holder that was overtaken (G6).
//!
//! The holder is a program that reads in one transaction and writes in another (`tests/programs/fenced_holder.rs`), is
//! stopped in between until its session has expired, and goes on after a rival has sold the last unit. Each way of
//! writing runs with its token and without: with it the write is refused; without it the same write goes through and
//! breaks the accounts, which shows that nothing else would have stopped it.

use std::{fs, path::Path};

use crate::support::{
    programs::fenced_holder,
    system::{PATIENCE, Servers, System},
};

const CASES: [(&str, &str); 4] =
    [("reserve", "on"), ("reserve", "off"), ("absolute", "on"), ("absolute", "off")];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_holder_paused_past_its_session_is_refused_by_its_token_alone() {
    let system = System::start(Servers::ZooKeeper, &[]).await;
    // The product's statement looks at what is left, too, and would stop the second sale of a last unit whatever the
    // token says. So it has units enough: what refuses it is the token alone. The other has one.
    system.import_stock("sku,on_hand\nreserve-on,3\nreserve-off,3\nabsolute-on,1\nabsolute-off,1\n").await;
    let go = system.stack.dir().join("go");
    for (write, fence) in CASES {
        hold(&system, &format!("holder-{write}-{fence}"), write, fence, &go);
    }
    for (write, fence) in CASES {
        let name = format!("holder-{write}-{fence}");
        system.wait_for_log(&name, "read").await;
        system.stack.pause(&name).unwrap();
    }
    // Nobody is told to wait any more; the holders cannot know.
    fs::write(&go, "").unwrap();
    for (write, fence) in CASES {
        hold(&system, &format!("rival-{write}-{fence}"), write, fence, &go);
    }
    for (write, fence) in CASES {
        let rival = system.finish(&format!("rival-{write}-{fence}"), PATIENCE).await.expect_success("rival");
        assert_eq!(rival, "read\nsold\n", "{write} {fence}");
    }
    for (write, fence) in CASES {
        let name = format!("holder-{write}-{fence}");
        system.stack.resume(&name).unwrap();
        let holder = system.finish(&name, PATIENCE).await.expect_success("holder");
        let expected = match (fence, write) {
            ("off", _) => "sold",
            (_, "reserve") => "refused: constraint placement_levels",
            _ => "refused: inconsistent data: ",
        };
        assert!(holder.starts_with(&format!("read\n{expected}")), "{name}: {holder}");
    }

    // With the token the rival's order alone. Without it two orders, for one unit where the write was absolute.
    for (write, fence) in CASES {
        let sku = format!("{write}-{fence}");
        let sold = sqlx::query_scalar("SELECT count(*) FROM reservation WHERE sku = $1").bind(&sku);
        let sold: i64 = sold.fetch_one(&system.database).await.unwrap();
        assert_eq!(sold, if fence == "on" { 1 } else { 2 }, "{sku}");
    }
    let verify = system.run(&["verify"]).await;
    assert!(!verify.success);
    let violations: Vec<&str> = verify.output.lines().filter(|line| line.starts_with("    ")).collect();
    assert_eq!(violations.len(), 1, "{}", verify.output);
    assert!(violations[0].contains("absolute-off at main: reserved 1, held 2"), "{}", verify.output);
}

/// A writer that skips the comparison is refused by the table itself.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stored_token_never_goes_back() {
    let system = System::start(Servers::Neither, &[]).await;
    system.import_stock("sku,on_hand\nguarded,1\n").await;
    system.execute("UPDATE inventory_level SET fence_epoch = 1, fence = 7 WHERE sku = 'guarded'").await;
    for older in [
        "UPDATE inventory_level SET fence = 6 WHERE sku = 'guarded'",
        "UPDATE inventory_level SET fence_epoch = 0, fence = 9 WHERE sku = 'guarded'",
    ] {
        let error = sqlx::query(older).execute(&system.database).await.unwrap_err();
        let constraint = error.as_database_error().and_then(|error| error.constraint());
        assert_eq!(constraint, Some("inventory_level_fence_grows"), "{error}");
    }
    // The same token again, and a newer epoch that counts from the beginning.
    for newer in [
        "UPDATE inventory_level SET reserved = 1, fence = 7 WHERE sku = 'guarded'",
        "UPDATE inventory_level SET fence_epoch = 2, fence = 1 WHERE sku = 'guarded'",
    ] {
        sqlx::query(newer).execute(&system.database).await.unwrap();
    }
}

fn hold(system: &System, name: &str, write: &str, fence: &str, go: &Path) {
    let sku = format!("{write}-{fence}");
    let args = [write, fence, &sku, &go.display().to_string()];
    system.spawn_program(name, &fenced_holder(), &args, &[]);
}
