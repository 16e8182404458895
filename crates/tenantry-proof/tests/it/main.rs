//! The program as `cargo xtask` runs it, on a short selection of what it can prove.

mod moves;
