//! `holdfast keys`.

use anyhow::Context as _;
use clap::Subcommand;

use super::wiring;
use crate::{
    app::{CreateApiKey, NewApiKey, Once, RotateApiKey},
    config::Config,
    domain::{access::Scope, ids::ApiKeyId},
    store::api_keys::{self, ApiKey, ApiKeyFilter},
};

/// API keys.
#[derive(Debug, Subcommand)]
pub(super) enum KeysCommand {
    /// Makes a key and prints its secret: the only time that it is shown.
    Create {
        /// What to call it.
        #[arg(long)]
        name: String,
        /// What it may do: orders:read, orders:write, payments:write, inventory:write, admin; several with commas.
        #[arg(long, value_delimiter = ',', required = true)]
        scopes: Vec<Scope>,
    },
    /// Lists the keys, the newest first, without their secrets.
    List,
    /// Makes a second live key of the same client, which may do the same, and prints its secret.
    Rotate {
        /// The id of the key that it is to follow.
        id: ApiKeyId,
        /// After how many seconds the old key ends. Without it the old key lives until it is revoked.
        #[arg(long, value_name = "SECONDS")]
        expires_in: Option<i32>,
    },
    /// Revokes a key. It stops working within seconds.
    Revoke {
        /// Its id.
        id: ApiKeyId,
    },
}

pub(super) async fn run(config: &Config, command: KeysCommand) -> anyhow::Result<()> {
    let app = wiring::app(config).await?;
    match command {
        KeysCommand::Create { name, scopes } => {
            print_new(&now(app.create_api_key(&CreateApiKey { name, scopes }, None).await?)?);
        }
        KeysCommand::List => {
            let everything = ApiKeyFilter::default();
            let keys = api_keys::list(&mut *app.store.conn().await?, &everything, i64::MAX).await?;
            super::print(&keys.iter().map(line).collect::<String>())?;
        }
        KeysCommand::Rotate { id, expires_in } => {
            let rotate = RotateApiKey { old_key_expires_in_seconds: expires_in };
            print_new(&now(app.rotate_api_key(id, &rotate, None).await?)?);
        }
        KeysCommand::Revoke { id } => {
            now(app.revoke_api_key(id, None).await?)?;
            println!("{id} is revoked");
        }
    }
    Ok(())
}

/// Commands have no idempotency key, so nothing of theirs was done before.
fn now<T>(once: Once<T>) -> anyhow::Result<T> {
    match once {
        Once::Now(done) => Some(done),
        Once::Before(_) => None,
    }
    .context("a command was answered from before")
}

fn print_new(new: &NewApiKey) {
    eprintln!("{} was made; its secret is shown only now:", new.key.id);
    println!("{}", new.secret);
}

fn line(key: &ApiKey) -> String {
    let state = match (key.revoked_at, key.expires_at) {
        (Some(since), _) => format!("revoked {since}"),
        (None, Some(at)) if key.is_live => format!("live until {at}"),
        (None, Some(at)) => format!("expired {at}"),
        (None, None) => "live".to_owned(),
    };
    let used = key.last_used_at.map_or_else(|| "never used".to_owned(), |at| format!("used {at}"));
    let (id, client_id, made, scopes, name) = (key.id, key.client_id, key.created_at, key.scopes, &key.name);
    format!("{id}  {client_id}  {made}  {state}  {used}  {scopes}  {name}\n")
}
