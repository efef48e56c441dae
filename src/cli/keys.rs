//! `holdfast keys`.

use clap::Subcommand;

use super::wiring;
use crate::{
    config::Config,
    domain::{access::Scope, ids::ApiKeyId},
    store::api_keys,
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
    /// Lists the keys, without their secrets.
    List,
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
            let key = app.create_api_key(&name, scopes.into_iter().collect()).await?;
            eprintln!("{} was made; its secret is shown only now:", key.id);
            println!("{}", key.secret);
        }
        KeysCommand::List => {
            for key in api_keys::list(&mut *app.store.conn().await?).await? {
                let state =
                    key.revoked_at.map_or_else(|| "live".to_owned(), |since| format!("revoked {since}"));
                println!("{}  {}  {state}  {}  {}", key.id, key.created_at, key.scopes, key.name);
            }
        }
        KeysCommand::Revoke { id } => {
            app.revoke_api_key(id).await?;
            println!("{id} is revoked");
        }
    }
    Ok(())
}
