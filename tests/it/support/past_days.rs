//! A database that is older than it is: the day on which it was migrated lies in the past, and so do its events.

use chrono::NaiveDate;
use sqlx::AssertSqlSafe;

use super::app::TestApp;

/// How many days ago.
pub(crate) const AGE: i32 = 40;

/// Makes the first day of events one of the past, before there are any, and today a day of its own. Gives the first.
pub(crate) async fn make_past_day(test: &TestApp) -> NaiveDate {
    let statement = "DO $$
        DECLARE
            today date := (now() AT TIME ZONE 'UTC')::date;
            parent text; part text; past text;
        BEGIN
            FOREACH parent IN ARRAY ARRAY['outbox_sent', 'inbox'] LOOP
                -- The template of the database may be of yesterday.
                SELECT c.relname INTO part FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid
                WHERE i.inhparent = parent::regclass AND c.relname ~ '_[0-9]{8}$' ORDER BY c.relname LIMIT 1;
                past := parent || '_' || to_char(today - AGE, 'YYYYMMDD');
                EXECUTE format('ALTER TABLE %I DETACH PARTITION %I', parent, part);
                EXECUTE format('ALTER TABLE %I RENAME TO %I', part, past);
                EXECUTE format('ALTER TABLE %I ATTACH PARTITION %I FOR VALUES FROM (MINVALUE) TO (%L)', parent, past,
                               event_id_from((today - AGE + 1)::timestamp AT TIME ZONE 'UTC'));
            END LOOP;
            PERFORM make_event_day(today);
        END $$"
        .replace("AGE", &AGE.to_string());
    let mut conn = test.conn().await;
    sqlx::raw_sql(AssertSqlSafe(statement)).execute(&mut *conn).await.unwrap();
    sqlx::query_scalar("SELECT min(day) FROM event_day").fetch_one(&mut *conn).await.unwrap()
}

/// Makes everything that has happened so far happen as long ago.
pub(crate) async fn age_events(test: &TestApp) {
    let old_id = "(substr(event_id_from(now() - interval 'AGE days')::text, 1, 13) || substr(event_id::text, 14))::uuid";
    let statements = format!(
        "UPDATE outbox_sent SET event_id = {old_id}, created_at = created_at - interval 'AGE days',
                sent_at = sent_at - interval 'AGE days';
         UPDATE inbox SET event_id = {old_id};
         UPDATE orders SET created_at = created_at - interval 'AGE days'"
    );
    let statements = statements.replace("AGE", &AGE.to_string());
    sqlx::raw_sql(AssertSqlSafe(statements)).execute(&mut *test.conn().await).await.unwrap();
}
