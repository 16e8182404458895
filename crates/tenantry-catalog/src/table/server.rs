//! The PostgreSQL clusters of the fleet.
