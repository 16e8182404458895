//! What holds together, whichever driver runs its statements: the bodies of `transaction` and `savepoint`.

/// Runs `work` in a transaction: committed when it gives `Ok`, undone when it gives `Err`.
macro_rules! whole {
    ($begin:expr, $work:ident) => {{
        let mut transaction = $begin;
        match $work(&mut transaction).await {
            Ok(value) => {
                transaction.commit().await?;
                Ok(value)
            }
            Err(error) => {
                transaction.rollback().await?;
                Err(error)
            }
        }
    }};
}

/// Runs `work` as a part of a transaction, whose field `inner` is one of the pools'.
macro_rules! part {
    ($transaction:ident, $work:ident) => {{
        $transaction.inner.savepoint().await.map_err(crate::Error::from)?;
        match $work($transaction).await {
            Ok(value) => {
                $transaction.inner.release().await.map_err(crate::Error::from)?;
                Ok(value)
            }
            Err(error) => {
                $transaction.inner.undo().await.map_err(crate::Error::from)?;
                Err(error)
            }
        }
    }};
}

pub(crate) use {part, whole};
