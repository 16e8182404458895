//! A private PostgreSQL: finds the binaries, makes a cluster, starts and stops it.
