//! The control database: all of its SQL, a file per table, and its migrations.
