//! Connections to tenant databases: bounded, fair, tenant-affine; the placement cache.
