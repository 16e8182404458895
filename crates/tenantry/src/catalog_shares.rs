//! This process's share of the connections to each server, as the catalog divides them.

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use tenantry_catalog::{
    Catalog,
    connection_share::{self, Standing as CatalogStanding},
};
use tenantry_pool::{Share, ShareError, ShareSource, Standing};

use crate::process::Process;

/// Renews this process's leases in the catalog.
pub(crate) struct CatalogShares {
    catalog: Catalog,
    process: Arc<Process>,
}

impl CatalogShares {
    pub(crate) fn new(catalog: Catalog, process: Arc<Process>) -> Self {
        Self { catalog, process }
    }
}

#[async_trait]
impl ShareSource for CatalogShares {
    async fn renew(&self, standing: Standing) -> Result<Share, ShareError> {
        let count = |number: usize| u32::try_from(number).unwrap_or(u32::MAX);
        let standing = CatalogStanding {
            process: self.process.id(),
            server: standing.server,
            wanted: count(standing.wanted),
            held: count(standing.held),
            serves: self.process.serves(),
            lease: standing.lease,
            grace: standing.grace,
        };
        let granted = connection_share::renew(&self.catalog, &standing)
            .await
            .map_err(|error| ShareError(error.to_string()))?
            .ok_or_else(|| ShareError("the catalog does not know the server".to_owned()))?;
        Ok(Share {
            target: granted.target as usize,
            held: granted.held as usize,
        })
    }

    async fn leave(&self) -> Result<(), ShareError> {
        let left = tokio::time::timeout(
            Duration::from_secs(5),
            connection_share::leave(&self.catalog, self.process.id()),
        );
        match left.await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(error)) => Err(ShareError(error.to_string())),
            Err(_) => Err(ShareError("the catalog does not answer".to_owned())),
        }
    }
}
