//! What a move has shown: how many rows of which tables went, with which checksums, from where to where, up to which positions of the log,
//! and how long the tenant waited.

use serde_json::Value;
use tenantry_core::OperationId;

use crate::{Authority, CertificateError, OperationError, Ops, Signed, certificate::Subject};

/// Signs what a move has shown.
pub(crate) fn certify(ops: &Ops, certificate: Value) -> Value {
    ops.certify(Subject::Move, certificate).document()
}

impl Ops {
    /// The certificate of a move, as its operation keeps it; of one that was taken back, that of the way back.
    ///
    /// # Errors
    /// See [`OperationError`].
    pub async fn find_move_certificate(
        &self,
        authority: &Authority,
        id: OperationId,
    ) -> Result<Signed<Value>, OperationError> {
        let operation = self.get_operation(authority, id).await?;
        let progress = &operation.progress;
        let kept = [&progress["back"]["certificate"], &progress["certificate"]]
            .into_iter()
            .find(|kept| kept.is_object())
            .ok_or(OperationError::NoCertificate)?;
        let certificate = self.verify_move(&kept.to_string())?;
        let jws = kept["jws"].as_str().unwrap_or_default().to_owned();
        Ok(Signed { certificate, jws })
    }

    /// Reads a certificate of a move that somebody shows: as [`Signed::document`] writes it, or only its signed line.
    ///
    /// # Errors
    /// [`CertificateError`] where this installation did not sign it, where it says something else than what was signed, and where it is
    /// about something else.
    pub fn verify_move(&self, document: &str) -> Result<Value, CertificateError> {
        self.read_certificate(Subject::Move, document)
    }
}
