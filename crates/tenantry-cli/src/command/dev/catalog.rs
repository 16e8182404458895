//! The catalog on the private PostgreSQL, for commands other than `dev`: the same folder, the same data.

use anyhow::Context;
use tenantry_catalog::Catalog;
use tenantry_ops::Ops;
use tenantry_postgres::{Binaries, Cluster};

use super::{folder::Folder, master_key, private, state::State, world};
use crate::{config::Config, connect, failure::Failure, progress::Progress};

/// A catalog on the private PostgreSQL in `.tenantry`, and a server to place tenants on.
pub(crate) struct PrivateCatalog {
    ops: Ops,
    cluster: Cluster,
    _folder: Folder,
}

impl PrivateCatalog {
    /// Starts the private PostgreSQL and makes what is missing.
    ///
    /// # Errors
    ///
    /// When a `dev` runs in the folder, or PostgreSQL can't be started.
    pub(crate) async fn open(binaries: Binaries, config: &Config, progress: &Progress) -> Result<Self, Failure> {
        let folder = Folder::take(&std::env::current_dir().context("the current folder is gone")?)?;
        let cluster = private::start(&folder, binaries, progress).await?;
        let mut opened = None;
        match Self::prepare(&folder, &cluster, config, &mut opened, progress).await {
            Ok(ops) => Ok(Self {
                ops,
                cluster,
                _folder: folder,
            }),
            Err(failure) => {
                if let Some(catalog) = opened {
                    catalog.close();
                }
                cluster.stop().await?;
                Err(failure)
            }
        }
    }

    async fn prepare(
        folder: &Folder,
        cluster: &Cluster,
        config: &Config,
        opened: &mut Option<Catalog>,
        progress: &Progress,
    ) -> Result<Ops, Failure> {
        progress.step("opening the catalog");
        let mut state = State::read(folder)?;
        let url = world::catalog_url(cluster, folder, &mut state).await?;
        let catalog = Catalog::connect(&url, &master_key(folder)?).await?;
        *opened = Some(catalog.clone());
        let ops = connect::ops_on(catalog, config)?;
        progress.step("preparing the server");
        world::register(&ops, cluster).await?;
        world::bring_up_to_date(&ops).await?;
        Ok(ops)
    }

    pub(crate) fn ops(&self) -> &Ops {
        &self.ops
    }

    /// Stops the private PostgreSQL; its data stay for the next command.
    pub(crate) async fn stop(self) -> Result<(), Failure> {
        // Before what it is connected to.
        self.ops.catalog().close();
        Ok(self.cluster.stop().await?)
    }
}
