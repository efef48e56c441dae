//! `holdfast migrate`.

use super::wiring;
use crate::config::Config;

pub(super) async fn run(config: &Config) -> anyhow::Result<()> {
    let store = wiring::store(config).await?;
    store.migrate().await?;
    println!("the database is up to date");
    Ok(())
}
