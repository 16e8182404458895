//! What operations are about to make outside of the catalog.
