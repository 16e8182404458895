//! The fault itself.

use std::{path::Path, sync::Arc, time::Duration};

use anyhow::Result;
use tenantry_testing::FaultProxy;

use super::{
    matrix::{Batch, Course, Fault, Server},
    mover::Mover,
    site::{LEASE, Site},
};
use crate::rng::Rng;

/// What has to be taken back when the moves have ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[must_use]
pub(super) enum Lasting {
    Yes,
    No,
}

impl Batch {
    /// The server that the tenants leave on the way on which they are met.
    fn source(&self) -> Server {
        let run = &self.runs[0];
        match run.course {
            Course::There => run.from.server,
            Course::Back => run.to.server,
        }
    }

    /// The one that they go to.
    fn target(&self) -> Server {
        let run = &self.runs[0];
        match run.course {
            Course::There => run.to.server,
            Course::Back => run.from.server,
        }
    }

    /// Before the movers start.
    pub(super) fn prepare(&self, site: &Site) {
        if self.fault == Fault::Stale {
            site.deaf.stall();
        }
    }

    /// All movers are at their places. Lets them go on, with the fault; `runner` starts another process's share.
    pub(super) async fn strike(
        &self,
        site: &Arc<Site>,
        movers: &mut [Mover],
        gate: &Path,
        runner: impl FnOnce(),
    ) -> Result<Lasting> {
        let mut rng = Rng::of(self.seed, &[5]);
        match self.fault {
            Fault::KillMover => {
                for mover in movers {
                    mover.kill()?;
                }
                runner();
            }
            Fault::KillSource | Fault::KillTarget | Fault::KillCatalog => {
                // Back before a mover has given up, or only after it has met a server that is away.
                let away = Duration::from_millis(rng.between(1, 1_500));
                let site = site.clone();
                let which = match self.fault {
                    Fault::KillSource => Some(self.source()),
                    Fault::KillTarget => Some(self.target()),
                    _ => None,
                };
                let killed = tokio::spawn(async move {
                    match which {
                        Some(server) => site.place(server).kill(away).await,
                        None => site.catalog.kill(away).await,
                    }
                });
                tokio::time::sleep(Duration::from_millis(rng.below(200))).await;
                open(gate)?;
                killed.await?;
                runner();
            }
            Fault::CutSource | Fault::CutTarget | Fault::CutCatalog => {
                let proxy = self.proxy(site);
                proxy.cut_once();
                open(gate)?;
                // And once more in the middle of what they do next.
                tokio::time::sleep(Duration::from_millis(rng.below(400))).await;
                proxy.cut_once();
                runner();
            }
            Fault::Stall => {
                let server = if rng.chance(50) { self.source() } else { self.target() };
                site.place(server).proxy.stall();
                open(gate)?;
                runner();
                tokio::time::sleep(LEASE + Duration::from_millis(rng.below(1_500))).await;
                site.place(server).proxy.heal();
            }
            Fault::Slow => {
                for proxy in site.proxies() {
                    proxy.delay(Duration::from_millis(rng.between(2, 12)));
                }
                open(gate)?;
                runner();
                return Ok(Lasting::Yes);
            }
            Fault::TwoMovers => {
                for mover in movers.iter() {
                    mover.signal("-STOP")?;
                }
                open(gate)?;
                runner();
                tokio::time::sleep(LEASE + Duration::from_millis(rng.below(1_200))).await;
                for mover in movers.iter() {
                    mover.signal("-CONT")?;
                }
            }
            Fault::Stale => {
                open(gate)?;
                runner();
                return Ok(Lasting::Yes);
            }
            Fault::Clock => {
                site.shift_clocks().await?;
                runner();
                tokio::time::sleep(Duration::from_millis(rng.below(800))).await;
                open(gate)?;
            }
        }
        Ok(Lasting::No)
    }

    fn proxy<'a>(&self, site: &'a Site) -> &'a FaultProxy {
        match self.fault {
            Fault::CutSource => &site.place(self.source()).proxy,
            Fault::CutTarget => &site.place(self.target()).proxy,
            _ => &site.catalog.proxy,
        }
    }
}

/// Lets the movers go on.
fn open(gate: &Path) -> Result<()> {
    Ok(std::fs::write(gate, "")?)
}

impl Site {
    /// Clocks only matter where a moment that was written down is compared with now. So an hour that the catalog's clock jumps ahead is an
    /// hour that every lease is shorter; and an hour that a server's clock went back, between the start of a connection and
    /// the closing of a fence, is an hour that the fence seems to have closed before that connection was there.
    async fn shift_clocks(&self) -> Result<()> {
        let client = self.ops.catalog().client().await?;
        let leases = "update operation set lease_until = lease_until - interval '1 hour' where lease_until is not null";
        client.execute(leases, &[]).await?;
        let like = format!(r"tn\_{}\_%", self.ops.catalog().installation());
        for server in Server::ALL {
            let admin = self.place(server).connect("postgres").await?;
            let databases = "select datname::text from pg_database where datname like $1 and datallowconn";
            for row in admin.query(databases, &[&like]).await? {
                // One that is made or dropped just now has no fence.
                let Ok(client) = self.place(server).connect(row.get(0)).await else {
                    continue;
                };
                let fences = "update tenantry_private.fence set settled_at = settled_at - interval '1 hour' where settled_at is not null";
                let _ = client.execute(fences, &[]).await;
            }
        }
        Ok(())
    }

    /// Everything is as it should be again.
    pub(super) fn heal(&self) {
        for proxy in self.proxies() {
            proxy.heal();
        }
    }
}
