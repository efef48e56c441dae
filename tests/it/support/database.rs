//! Databases of one test each, copied from one that was migrated once.

use sqlx::{AssertSqlSafe, Connection as _, Executor as _, PgConnection};
use tokio::sync::OnceCell;
use url::Url;
use uuid::Uuid;

use holdfast::store::{Store, StoreOptions};

use super::{PATIENCE, stack};

/// A database of a test. It goes with the servers if the test does not drop it.
#[derive(Debug)]
pub(crate) struct TestDatabase {
    name: String,
    pub(crate) url: String,
}

impl TestDatabase {
    /// A migrated database without rows.
    pub(crate) async fn create() -> Self {
        static TEMPLATE: OnceCell<TestDatabase> = OnceCell::const_new();
        let migrated = || async {
            let database = Self::empty().await;
            let store = database.store().await;
            store.migrate().await.unwrap();
            store.close().await;
            database
        };
        TEMPLATE.get_or_init(migrated).await.copy().await
    }

    /// A database without tables.
    pub(crate) async fn empty() -> Self {
        Self::from_template("template1").await
    }

    /// The same rows again. Nobody may be connected to the original.
    pub(crate) async fn copy(&self) -> Self {
        Self::from_template(&self.name).await
    }

    async fn from_template(template: &str) -> Self {
        let name = format!("test_{}", Uuid::now_v7().simple());
        administrate(format!("CREATE DATABASE {name} TEMPLATE {template}")).await;
        let url = administration_url().rsplit_once('/').unwrap().0;
        Self { url: format!("{url}/{name}"), name }
    }

    /// A connection of the test's own, past the code under test.
    pub(crate) async fn connect(&self) -> PgConnection {
        PgConnection::connect(&self.url).await.unwrap()
    }

    /// A pool as the service uses it, for more load than a test puts on it.
    pub(crate) async fn store(&self) -> Store {
        Store::connect(&self.options()).await.unwrap()
    }

    pub(crate) fn options(&self) -> StoreOptions {
        StoreOptions {
            url: self.url.clone(),
            max_connections: 24,
            acquire_timeout: PATIENCE,
            statement_timeout: PATIENCE,
            lock_timeout: PATIENCE,
            idle_in_transaction_timeout: PATIENCE,
        }
    }

    /// Where the server listens.
    pub(crate) fn address(&self) -> String {
        let url = Url::parse(&self.url).unwrap();
        format!("127.0.0.1:{}", url.port().unwrap())
    }

    /// Its URL through a proxy.
    pub(crate) fn url_at(&self, address: &str) -> String {
        let mut url = Url::parse(&self.url).unwrap();
        url.set_port(Some(address.rsplit_once(':').unwrap().1.parse().unwrap())).unwrap();
        url.to_string()
    }

    /// Frees its room. Nobody may be connected to it.
    pub(crate) async fn drop(self) {
        administrate(format!("DROP DATABASE {} WITH (FORCE)", self.name)).await;
    }
}

fn administration_url() -> &'static str {
    stack::shared().addresses().postgres_url.as_deref().unwrap()
}

async fn administrate(statement: String) {
    let mut conn = PgConnection::connect(administration_url()).await.unwrap();
    conn.execute(AssertSqlSafe(statement)).await.unwrap();
    conn.close().await.unwrap();
}
