//! The open database: each program runs there first and must succeed, so that it is known to bite.

use anyhow::{Context as _, Result};
use tenantry_core::{TenantId, seal::Key};
use tenantry_testing::TestCluster;
use uuid::Uuid;

use super::{
    ground::{APPLICATION, BOOKINGS, Ground, Mechanism},
    random_hex,
};

/// The template of which each program gets a copy, so that no opening helps another program.
pub(super) struct Open<'a> {
    cluster: &'a TestCluster,
    template: String,
    owner: String,
    password: String,
    key: Key,
    a: TenantId,
    b: TenantId,
    bookings: bool,
}

impl<'a> Open<'a> {
    /// Makes the template.
    pub(super) async fn make(cluster: &'a TestCluster, bookings: bool) -> Result<Self> {
        let id = random_hex();
        let open = Self {
            cluster,
            template: format!("open_{id}"),
            owner: format!("open_{id}_owner"),
            password: random_hex(),
            key: Key::new(1, rand::random()),
            a: TenantId::from_uuid(Uuid::now_v7()),
            b: TenantId::from_uuid(Uuid::now_v7()),
            bookings,
        };
        let maintenance = cluster.connect("postgres").await;
        maintenance
            .batch_execute(&format!("create role {} nologin", open.owner))
            .await
            .context("the open database's roles can't be made")?;
        maintenance
            .batch_execute(&format!("create database {} template template0", open.template))
            .await
            .context("the open database can't be made")?;
        let client = cluster.connect(&open.template).await;
        let text = include_str!("open.sql")
            .replace("{application}", APPLICATION)
            .replace("{bookings}", if bookings { BOOKINGS } else { "" })
            .replace("{owner}", &open.owner);
        let text = if bookings {
            text.replace("create extension if not exists btree_gist;", "")
        } else {
            text
        };
        if bookings {
            client
                .batch_execute("create extension btree_gist schema public")
                .await?;
        }
        client
            .batch_execute(&text)
            .await
            .context("the open database can't be filled")?;
        let (ik, ok) = open.key.blocks();
        client
            .execute(
                "insert into naive.mac_key (kid, ik, ok) values (1, $1, $2)",
                &[&ik.as_slice(), &ok.as_slice()],
            )
            .await?;
        client
            .batch_execute(&format!(
                "insert into naive.fence (tenant) values ('{}'), ('{}')",
                open.a, open.b
            ))
            .await?;
        Ok(open)
    }

    /// A copy of its own for one program.
    pub(super) async fn ground(&self) -> Result<Ground> {
        let name = format!("open_{}", random_hex());
        let maintenance = self.cluster.connect("postgres").await;
        // The session that filled the template may take a moment to go.
        let mut tries = 0;
        while let Err(error) = maintenance
            .batch_execute(&format!("create database {name} template {}", self.template))
            .await
        {
            tries += 1;
            if tries == 50 {
                return Err(error).context("the open database can't be copied");
            }
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        }
        let admin = self.cluster.connect(&name).await;
        // Roles are the server's: a right that one program's opening gives must not help the next one.
        let (role, owner, password) = (format!("{name}_app"), &self.owner, &self.password);
        admin
            .batch_execute(&format!(
                "update naive.mac_key set database_name = current_database();
                 create role {role} login password '{password}';
                 alter role {role} in database {name} set search_path = app, public;
                 grant usage on schema app, tenantry, naive to {role};
                 grant all on all tables in schema app to {role};
                 grant all on all sequences in schema app to {role};
                 alter default privileges for role {owner} in schema app grant all on tables to {role}"
            ))
            .await?;
        let app = self.cluster.config_for(&name, &role, password);
        let superuser = self.cluster.admin_config(&name);
        Ok(Ground {
            label: "open".to_owned(),
            mechanism: Mechanism::Naive,
            a: self.a,
            b: self.b,
            attacker: app.clone(),
            victim: app,
            attackers_admin: superuser.clone(),
            victims_admin: superuser,
            key: self.key.clone(),
            victims_key: self.key.clone(),
            foreign_key: self.key.clone(),
            old_key: None,
            own: "app".to_owned(),
            target: "app".to_owned(),
            shared: true,
            together: true,
            hardened: false,
            bookings: self.bookings,
            canary: random_hex(),
            names: vec![
                ("{app}", role.clone()),
                ("{victim_app}", role),
                ("{owner}", self.owner.clone()),
                ("{seal}", self.owner.clone()),
                ("{mover}", self.owner.clone()),
                ("{super}", self.cluster.superuser().to_owned()),
                ("{db}", name.clone()),
                ("{victim_db}", name.clone()),
                ("{host}", self.cluster.host().to_owned()),
                ("{port}", self.cluster.port().to_string()),
                ("{password}", self.password.clone()),
                ("{super_password}", self.cluster.password().to_owned()),
            ],
            role_reset: String::new(),
            own_admin: admin,
            target_admin: self.cluster.connect(&name).await,
            databases: Vec::new(),
        })
    }

    /// Drops a copy.
    pub(super) async fn drop_ground(&self, ground: Ground) {
        let name = ground.fill("{db}");
        let role = ground.fill("{app}");
        drop(ground);
        let maintenance = self.cluster.connect("postgres").await;
        // The whole server goes after the run; a copy that stays is in nobody's way.
        let _ = maintenance
            .batch_execute(&format!("drop database if exists {name} with (force)"))
            .await;
        let _ = maintenance.batch_execute(&format!("drop role if exists {role}")).await;
    }
}
