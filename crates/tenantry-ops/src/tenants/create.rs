//! Creating a tenant: everything the catalog has to know in one transaction, then the operation that makes its home.

use tenantry_catalog::{
    placement::{self, NewPlacement},
    server,
    tenant::NewTenant,
};
use tenantry_core::{SHARED_SCHEMA, ServerId, own_schema_name};

use super::*;
use crate::{
    PreparedOwner,
    archive::Birth,
    idempotency::Keyed,
    members::add_first_owner,
    placing,
    runner::{Journal, Placed, Taken, provision},
    secret,
};

impl Ops {
    /// Creates a tenant, makes its home, applies the application's migrations there, makes its first owner, and
    /// activates it. Returns once it is active.
    ///
    /// With an idempotency key, the same request again is the same request: it waits for the first one's operation and
    /// returns its tenant.
    ///
    /// # Errors
    /// See [`TenantError`]. After [`TenantError::Failed`] nothing is left of the tenant but its record.
    ///
    /// # Cancel safety
    /// Once the tenant is recorded, its operation goes on by itself.
    pub async fn create_tenant(
        &self,
        authority: &Authority,
        request: &TenantRequest,
        idempotency_key: Option<&str>,
    ) -> Result<Tenant, TenantError> {
        self.bear_tenant(authority, request, idempotency_key, None).await
    }

    /// The same for a tenant that begins with another's rows.
    pub(crate) async fn bear_tenant(
        &self,
        authority: &Authority,
        request: &TenantRequest,
        idempotency_key: Option<&str>,
        birth: Option<&Birth>,
    ) -> Result<Tenant, TenantError> {
        authority.require_operator(OperatorScope::Tenants)?;
        check_settings(request.settings.as_ref())?;
        let profile = &request.profile;
        check_profile(Some(&profile.address), Some(&profile.phone), Some(&profile.website))?;
        let keyed = Keyed::new(authority, idempotency_key, &sameness(request))?;
        // Outside of the transaction: hashing takes tens of milliseconds.
        let owner = match &request.admin {
            None => None,
            Some(admin) => Some(
                self.prepare_owner(admin.email.clone(), admin.name.clone(), admin.password.as_ref())
                    .await
                    .map_err(TenantError::Owner)?,
            ),
        };
        if self.has_to_derive_for_spares().await? {
            // What a spare has to have; that it can't be worked out, the operation tells.
            let _ = self.derive_migrations().await;
        }
        let Recorded {
            tenant,
            operation,
            taken,
        } = self
            .record_tenant(authority, request, owner.as_ref(), &keyed, birth)
            .await?;
        match taken {
            Some(taken) => {
                // Most often that is all: it is known as it was committed.
                if let Some(activated) = self.run_taken(taken).await {
                    return Ok(activated);
                }
                self.await_operation(operation).await?;
            }
            None => self.finish_operation(operation).await?,
        }
        self.get_tenant(&Authority::system("created"), &tenant.into()).await
    }

    async fn record_tenant(
        &self,
        authority: &Authority,
        request: &TenantRequest,
        owner: Option<&PreparedOwner>,
        keyed: &Keyed<'_>,
        birth: Option<&Birth>,
    ) -> Result<Recorded, TenantError> {
        let mut client = self.catalog().client().await?;
        let transaction = client.transaction().await?;
        if let Some(again) = keyed.claim(&transaction).await? {
            return Ok(Recorded {
                tenant: again.tenant,
                operation: again.operation.ok_or(TenantError::KeyReused)?,
                taken: None,
            });
        }
        let id = birth.and_then(|birth| birth.id).unwrap_or_else(secret::tenant_id);
        let operation = secret::operation_id();
        let plan = request.plan.clone().unwrap_or_default();
        let empty = json!({});
        let new = NewTenant {
            id,
            slug: &request.slug,
            name: &request.name,
            plan: &plan,
            profile: &request.profile,
            settings: request.settings.as_ref().unwrap_or(&empty),
        };
        // What does not need each other's answers is sent at once.
        let (inserted, place) = tokio::join!(
            tenant::insert(&transaction, &new),
            placing::take(
                self,
                &transaction,
                request,
                &plan,
                birth.is_none_or(|birth| birth.version.is_none())
            )
        );
        inserted??;
        let place = place?;
        if let Some(owner) = owner {
            add_first_owner(&transaction, id, owner).await?;
        }
        let schema = match place.isolation {
            Isolation::Shared | Isolation::Database => SHARED_SCHEMA.to_owned(),
            Isolation::Schema => own_schema_name(id),
        };
        let server = place.server.id;
        // Logging in goes on while the catalog writes.
        if let (Isolation::Schema, Some(there)) = (place.isolation, &place.database) {
            self.at_hand().fetch(self, server, &there.name);
        }
        let (database, home) = match place.database {
            Some(there) => (
                there.id,
                provision::first_object(place.isolation, server, &there.name, &schema),
            ),
            None => {
                let (own, name) = placing::record_own_database(self, &transaction, server, id).await?;
                (own, provision::first_object(place.isolation, server, &name, &schema))
            }
        };
        let at = NewPlacement {
            tenant: id,
            isolation: place.isolation,
            database,
            schema: &schema,
        };
        let input = birth.map_or_else(|| json!({}), Birth::input);
        let work = NewOperation {
            id: operation,
            kind: OperationKind::Provision,
            tenant: Some(id),
            database: None,
            input: &input,
            run_after: None,
        };
        let ((), taken, made, ()) = tokio::try_join!(
            placement::insert(&transaction, &at),
            Journal::take(self, &transaction, &work, home),
            tenant::find(&transaction, id),
            change::announce(&transaction, Change::Tenant(id))
        )?;
        keyed.record(&transaction, id, Some(operation)).await?;
        let made = made.ok_or(TenantError::NotFound)?;
        let act = Act {
            action: birth.map_or("tenant.create", Birth::action),
            tenant: Some(id),
            target: id.to_string(),
            before: birth.map(Birth::origin),
            after: Some(shown(&made)),
        };
        let (home, audited) = tokio::join!(
            home_of(self, &transaction, id, server),
            audit::record(&transaction, authority, act)
        );
        audited?;
        let home = home?;
        transaction.commit().await?;
        Ok(Recorded {
            tenant: id,
            operation,
            taken: taken.map(|taken| taken.placed(home)),
        })
    }
}

/// What the operation would ask for first. Where a secret can't be opened, the operation asks and tells why; what fails in the catalog fails the
/// transaction, whose commit would tell nobody.
async fn home_of(
    ops: &Ops,
    transaction: &Transaction<'_>,
    tenant: TenantId,
    server: ServerId,
) -> Result<Option<Placed>, CatalogError> {
    let (located, administration) = tokio::join!(
        placement::locate(ops.catalog(), transaction, tenant),
        server::administration(ops.catalog(), transaction, server)
    );
    match (located, administration) {
        (Err(error @ CatalogError::Database(_)), _) | (_, Err(error @ CatalogError::Database(_))) => Err(error),
        (Ok(Some(located)), Ok(administration)) => Ok(Some((located, administration))),
        _ => Ok(None),
    }
}

/// A tenant that the catalog knows.
struct Recorded {
    tenant: TenantId,
    /// Makes its home.
    operation: OperationId,
    /// `None` where the operation is of an earlier request.
    taken: Option<Taken>,
}

/// What makes two requests the same. Passwords are left out: a fast hash of one would help to guess it.
fn sameness(request: &TenantRequest) -> Value {
    json!([
        "tenant.create",
        request.slug,
        request.name,
        request.isolation,
        request.server,
        request.region,
        request.plan,
        request.settings,
        request.profile.address,
        request.profile.phone,
        request.profile.website,
        request.admin.as_ref().map(|admin| json!([admin.email, admin.name])),
    ])
}
