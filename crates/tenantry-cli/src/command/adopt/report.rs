//! What adopting did: to each table, and with its rows.

use std::collections::BTreeMap;

use serde::{Serialize, Serializer, ser::SerializeStruct};
use tenantry_core::{Isolation, TenantId};
use tenantry_engine::adopt::{Copied, LeftOut};
use tenantry_ops::Tenant;

use super::{Done, folder::Written};
use crate::output::{Answer, fields, table};

/// What adopting did.
#[derive(Serialize)]
pub(super) struct Report {
    migration: Written,
    tables: Vec<Table>,
    tenant: Option<AdoptedTenant>,
    #[serde(serialize_with = "left_out")]
    left_out: Vec<LeftOut>,
}

/// A table, and what isolation did to it.
#[derive(Serialize)]
struct Table {
    table: String,
    /// Equal on both sides by count and checksum; none where no rows were copied.
    rows: Option<i64>,
    notes: Vec<String>,
}

#[derive(Serialize)]
struct AdoptedTenant {
    id: TenantId,
    slug: String,
    isolation: Option<Isolation>,
    server: Option<String>,
    database: Option<String>,
    schema: Option<String>,
}

impl Report {
    pub(super) fn new(migration: Written, left_out: Vec<LeftOut>, done: Done) -> Self {
        let Done { derived, taken } = done;
        let mut notes: BTreeMap<&str, Vec<String>> = BTreeMap::new();
        for note in derived.versions.iter().flat_map(|version| &version.notes) {
            notes.entry(&note.object).or_default().push(note.text.clone());
        }
        let (tenant, copied) = taken.unzip();
        let rows: BTreeMap<String, i64> = copied
            .into_iter()
            .flat_map(|copied: Copied| copied.tables)
            .map(|table| (table.table, table.rows))
            .collect();
        let mut tables: Vec<Table> = derived
            .tables
            .iter()
            .map(|table| Table {
                table: table.name.clone(),
                rows: rows.get(&table.name).copied(),
                notes: notes.remove(table.name.as_str()).unwrap_or_default(),
            })
            .collect();
        // Views, functions and the like.
        tables.extend(notes.into_iter().map(|(object, notes)| Table {
            table: object.to_owned(),
            rows: None,
            notes,
        }));
        Self {
            migration,
            tables,
            tenant: tenant.as_ref().map(AdoptedTenant::of),
            left_out,
        }
    }

    fn rows(&self) -> i64 {
        self.tables.iter().filter_map(|table| table.rows).sum()
    }
}

impl AdoptedTenant {
    fn of(tenant: &Tenant) -> Self {
        let place = tenant.placement.as_ref();
        Self {
            id: tenant.id,
            slug: tenant.slug.to_string(),
            isolation: place.map(|place| place.isolation),
            server: place.map(|place| place.server.clone()),
            database: place.map(|place| place.database.clone()),
            schema: place.map(|place| place.schema.clone()),
        }
    }
}

impl Answer for Report {
    fn text(&self) -> String {
        let rows = self.tables.iter().map(|table| {
            let count = table.rows.map_or_else(String::new, |rows| rows.to_string());
            [table.table.clone(), count, table.notes.join("\n")]
        });
        let mut text = format!("{}\n", table(["table", "rows", "what isolation did"], rows));
        if !self.left_out.is_empty() {
            let rows = self
                .left_out
                .iter()
                .map(|left| [left.object.clone(), left.reason.clone()]);
            text.push_str(&format!("\nNot taken over:\n{}\n", table(["what", "why"], rows)));
        }
        text.push_str(&format!(
            "\nThe schema is {}{}.\n",
            self.migration.file,
            self.migration.history()
        ));
        match &self.tenant {
            None => text.push_str("No rows were copied; leave --no-rows out to copy them."),
            Some(tenant) => {
                text.push_str(&format!(
                    "{} rows were copied and verified, table by table. The tenant:\n",
                    self.rows()
                ));
                text.push_str(&fields([
                    ("slug", tenant.slug.clone()),
                    ("id", tenant.id.to_string()),
                    (
                        "isolation",
                        tenant
                            .isolation
                            .map_or_else(String::new, |isolation| isolation.to_string()),
                    ),
                    ("server", tenant.server.clone().unwrap_or_default()),
                    ("database", tenant.database.clone().unwrap_or_default()),
                    ("schema", tenant.schema.clone().unwrap_or_default()),
                ]));
                text.push_str(&format!(
                    "\nServe it: tenantry dev, or tenantry serve. While that runs, give it an owner: tenantry member add {} you@example.com --role owner",
                    tenant.slug
                ));
            }
        }
        text
    }
}

fn left_out<S: Serializer>(left: &[LeftOut], serializer: S) -> Result<S::Ok, S::Error> {
    struct Shown<'a>(&'a LeftOut);
    impl Serialize for Shown<'_> {
        fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
            let mut shown = serializer.serialize_struct("LeftOut", 2)?;
            shown.serialize_field("object", &self.0.object)?;
            shown.serialize_field("reason", &self.0.reason)?;
            shown.end()
        }
    }
    serializer.collect_seq(left.iter().map(Shown))
}
