//! What happens to a database between the steps of a program.

use anyhow::{Context as _, Result, bail};
use tenantry_core::Epoch;
use tenantry_engine::{
    fence::{self, Closed},
    keys,
};
use tokio_postgres::{Client, Config, NoTls};

use super::{
    ground::{Ground, Mechanism},
    random_hex,
};

/// Does it.
pub(super) async fn act(ground: &mut Ground, what: &str) -> Result<()> {
    match what {
        "rotate the key" => rotate(ground).await,
        "suspend the victim" => suspend(ground).await,
        "resume the victim" => resume(ground).await,
        "write everything to disk" => Ok(ground.target_admin.batch_execute("checkpoint").await?),
        other => bail!("nobody knows how to `{other}`"),
    }
}

/// A new key, and the old one retired.
async fn rotate(ground: &mut Ground) -> Result<()> {
    let client = &ground.own_admin;
    let new = match ground.mechanism {
        Mechanism::Naive => {
            let new = tenantry_core::seal::Key::new(ground.key.id() + 1, rand::random());
            let (ik, ok) = new.blocks();
            client
                .execute("update naive.mac_key set retired = true", &[])
                .await
                .context("the key can't be retired")?;
            client
                .execute(
                    "insert into naive.mac_key (kid, ik, ok) values ($1, $2, $3)",
                    &[&i32::from(new.id()), &ik.as_slice(), &ok.as_slice()],
                )
                .await?;
            new
        }
        Mechanism::Ours(_) => {
            let live = keys::ids(client).await?;
            let new = keys::generate(&live);
            keys::add(client, &new).await?;
            keys::retire(client, ground.key.id()).await?;
            new
        }
    };
    if ground.together {
        ground.victims_key = new.clone();
    }
    ground.old_key = Some(std::mem::replace(&mut ground.key, new));
    Ok(())
}

async fn suspend(ground: &Ground) -> Result<()> {
    match ground.mechanism {
        Mechanism::Naive => {
            let sql = format!("update naive.fence set state = 3 where tenant = '{}'", ground.b);
            ground.target_admin.batch_execute(&sql).await?;
        }
        Mechanism::Ours(_) => fence::close(&ground.target_admin, ground.b, Epoch::FIRST, Closed::Suspended).await?,
    }
    Ok(())
}

async fn resume(ground: &Ground) -> Result<()> {
    match ground.mechanism {
        Mechanism::Naive => {
            let sql = format!("update naive.fence set state = 0 where tenant = '{}'", ground.b);
            ground.target_admin.batch_execute(&sql).await?;
        }
        Mechanism::Ours(_) => fence::open(&ground.target_admin, ground.b, Epoch::FIRST).await?,
    }
    Ok(())
}

/// A copy of the attacker's database beside it, as a restore for tests makes one: with its keys, and open to everybody, as
/// new databases are. Nobody may be connected to the original meanwhile, so all sessions there end.
pub(super) async fn copy(ground: &mut Ground) -> Result<String> {
    let (name, original) = (format!("copy_{}", random_hex()), ground.fill("{db}"));
    let mut config = ground.attackers_admin.clone();
    config.dbname("postgres");
    let maintenance = connect(&config).await?;
    for attempt in 0.. {
        maintenance
            .execute(
                "select pg_terminate_backend(pid) from pg_stat_activity where datname = $1",
                &[&original],
            )
            .await?;
        match maintenance
            .batch_execute(&format!("create database {name} template {original}"))
            .await
        {
            Ok(()) => break,
            Err(error) if attempt == 50 => return Err(error).context("the database can't be copied"),
            Err(_) => tokio::time::sleep(std::time::Duration::from_millis(20)).await,
        }
    }
    ground.own_admin = connect(&ground.attackers_admin).await?;
    ground.target_admin = connect(&ground.victims_admin).await?;
    Ok(name)
}

/// Drops the copy.
pub(super) async fn drop_copy(ground: &Ground, name: &str) -> Result<()> {
    let mut config = ground.attackers_admin.clone();
    config.dbname("postgres");
    let maintenance = connect(&config).await?;
    maintenance
        .batch_execute(&format!("drop database {name} with (force)"))
        .await
        .context("the copy can't be dropped")
}

async fn connect(config: &Config) -> Result<Client> {
    let (client, connection) = config.connect(NoTls).await.context("the superuser can't connect")?;
    tokio::spawn(connection);
    Ok(client)
}
