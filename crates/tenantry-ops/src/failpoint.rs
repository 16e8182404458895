//! Named places where tests break an operation. Compiled into debug builds only.
//!
//! `TENANTRY_FAILPOINT=<place>=<act>[,…]` with an act of `stop` (say so on standard error and hang, so that a test can kill
//! the process there), `nap` (say so and go on after two seconds, so that a test can stop the process meanwhile), `gate` (say so and go on once
//! the file that `TENANTRY_FAILPOINT_GATE` names is there, so that a test can break something meanwhile), `retry` (fail in a way that may pass) or `fail` (fail for good).

use crate::runner::Failure;

/// Acts if the environment names this place.
#[cfg(debug_assertions)]
pub(crate) async fn pass(place: &str) -> Result<(), Failure> {
    let Ok(setting) = std::env::var("TENANTRY_FAILPOINT") else {
        return Ok(());
    };
    for (name, act) in setting.split(',').filter_map(|one| one.split_once('=')) {
        if name == place {
            hit(place, act).await?;
        }
    }
    Ok(())
}

#[cfg(debug_assertions)]
async fn hit(place: &str, act: &str) -> Result<(), Failure> {
    if let "stop" | "nap" | "gate" = act {
        use std::io::Write as _;
        // Whoever started us with the variable set reads it; a closed pipe is theirs to notice.
        let _ = writeln!(std::io::stderr(), "failpoint {place}");
    }
    match act {
        "stop" => std::future::pending().await,
        "nap" => {
            tokio::time::sleep(std::time::Duration::from_secs(2)).await;
            Ok(())
        }
        "gate" => {
            let file = std::env::var_os("TENANTRY_FAILPOINT_GATE").expect("whoever sets a gate names its file");
            while !std::path::Path::new(&file).exists() {
                tokio::time::sleep(std::time::Duration::from_millis(5)).await;
            }
            Ok(())
        }
        "retry" => Err(Failure::retry("failpoint", format!("failpoint {place}"))),
        "fail" => Err(Failure::permanent("failpoint", format!("failpoint {place}"))),
        other => panic!("TENANTRY_FAILPOINT names an act that does not exist: {other}"),
    }
}

/// Release builds have no such places.
#[cfg(not(debug_assertions))]
pub(crate) async fn pass(_place: &str) -> Result<(), Failure> {
    Ok(())
}
