//! A verified context can't be made by hand, though a context can.

fn by_hand(context: tenantry::Context) -> tenantry::Verified {
    tenantry::Verified(context)
}

fn main() {}
