//! The test support, tested: what leaks here, every test leaks.

mod shared;
