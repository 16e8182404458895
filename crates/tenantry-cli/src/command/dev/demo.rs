//! The three demo tenants and what stands in their CRM.

use chrono::{Days, NaiveDate, Utc};
use tenantry::{Error, Scope, Transaction};
use tenantry_core::Isolation;
use uuid::Uuid;

/// A demo tenant with its owner.
pub(super) struct Demo {
    pub(super) slug: &'static str,
    pub(super) name: &'static str,
    pub(super) isolation: Isolation,
    pub(super) email: &'static str,
    pub(super) person: &'static str,
    contacts: &'static [Contact],
    projects: &'static [Project],
}

/// Name, local part of the e-mail, company.
type Contact = (&'static str, &'static str, &'static str);

struct Project {
    name: &'static str,
    description: &'static str,
    tasks: &'static [Task],
}

/// Title, status, due in how many days.
type Task = (&'static str, &'static str, u64);

/// One tenant of each isolation. That two of them know the same person (one e-mail) is on purpose.
pub(super) const DEMOS: [Demo; 3] = [
    Demo {
        slug: "acme",
        name: "Acme Ltd.",
        isolation: Isolation::Shared,
        email: "ann@acme.example",
        person: "Ann Archer",
        contacts: &[
            ("Wile E. Coyote", "wile", "Canyon Deliveries"),
            ("Rhea Runner", "rhea", "Canyon Deliveries"),
            ("Sam Sheepdog", "sam", "Flock & Sons"),
            ("Mia Moreno", "mia", "Moreno Imports"),
            ("Tariq Aziz", "tariq", "Aziz Logistics"),
        ],
        projects: &[
            Project {
                name: "Rocket skates",
                description: "The second generation, with brakes.",
                tasks: &[
                    ("Test the brakes", "doing", 3),
                    ("Write the warning label", "todo", 10),
                    ("Order wheels", "done", 1),
                ],
            },
            Project {
                name: "Autumn catalogue",
                description: "120 pages, printed and on the web.",
                tasks: &[("Choose the cover", "todo", 20), ("Photograph the anvils", "todo", 14)],
            },
        ],
    },
    Demo {
        slug: "globex",
        name: "Globex Corporation",
        isolation: Isolation::Schema,
        email: "gus@globex.example",
        person: "Gus Grant",
        contacts: &[
            ("Hank Scorpio", "hank", "Volcano Holdings"),
            ("Mia Moreno", "mia", "Moreno Imports"),
            ("Olga Petrova", "olga", "Northern Power"),
            ("Ben Okafor", "ben", "Okafor Instruments"),
        ],
        projects: &[Project {
            name: "Weather machine",
            description: "Pilot in two cities.",
            tasks: &[
                ("Find a second city", "todo", 7),
                ("Calibrate the sensors", "doing", 2),
                ("Answer the mayor", "todo", 1),
            ],
        }],
    },
    Demo {
        slug: "initech",
        name: "Initech",
        isolation: Isolation::Database,
        email: "ina@initech.example",
        person: "Ina Ivers",
        contacts: &[
            ("Peter Gibbons", "peter", "Initech"),
            ("Joanna Diaz", "joanna", "Flair Restaurants"),
            ("Bob Slydell", "bob", "Slydell & Porter"),
        ],
        projects: &[Project {
            name: "Bank software update",
            description: "Two digits are not enough for a year.",
            tasks: &[
                ("Cover sheets for the reports", "todo", 1),
                ("Find the stapler", "todo", 5),
                ("Fix the rounding", "done", 1),
            ],
        }],
    },
];

impl Demo {
    /// Fills the tenant's empty CRM, all of it or nothing.
    pub(super) async fn fill(&self, scope: &Scope) -> Result<(), Error> {
        let today = Utc::now().date_naive();
        scope
            .transaction(async |transaction| {
                let filled: bool = transaction
                    .query_one("select exists (select from contacts)", &[])
                    .await?
                    .get(0)?;
                if filled {
                    return Ok(());
                }
                self.insert_contacts(transaction).await?;
                self.insert_projects(transaction, today).await
            })
            .await
    }

    async fn insert_contacts(&self, transaction: &mut Transaction) -> Result<(), Error> {
        let ids: Vec<Uuid> = self.contacts.iter().map(|_| Uuid::now_v7()).collect();
        let names: Vec<&str> = self.contacts.iter().map(|(name, ..)| *name).collect();
        let emails: Vec<String> = self
            .contacts
            .iter()
            .map(|(_, local, _)| format!("{local}@mail.example"))
            .collect();
        let companies: Vec<&str> = self.contacts.iter().map(|(.., company)| *company).collect();
        transaction
            .execute(
                "insert into contacts (id, name, email, company)
                 select * from unnest($1::uuid[], $2::text[], $3::text[], $4::text[])",
                &[&ids, &names, &emails, &companies],
            )
            .await?;
        Ok(())
    }

    async fn insert_projects(&self, transaction: &mut Transaction, today: NaiveDate) -> Result<(), Error> {
        for project in self.projects {
            let id = Uuid::now_v7();
            transaction
                .execute(
                    "insert into projects (id, name, description) values ($1, $2, $3)",
                    &[&id, &project.name, &project.description],
                )
                .await?;
            for (title, status, due_in_days) in project.tasks {
                let due_on = today + Days::new(*due_in_days);
                transaction
                    .execute(
                        "insert into tasks (id, project_id, title, status, due_on) values ($1, $2, $3, $4, $5)",
                        &[&Uuid::now_v7(), &id, title, status, &due_on],
                    )
                    .await?;
            }
        }
        Ok(())
    }
}
