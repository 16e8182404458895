//! An attack: what the administrator prepares, what the application role does, and what tells whether it worked.

use tenantry_sql::Identifier;

/// What tells whether it worked.
#[derive(Clone, Debug)]
pub(super) enum Question {
    /// A count of rows that are all somebody else's.
    Rows(String),
    /// A statement that changes rows that are all somebody else's.
    Affected(String),
    /// A statement after which the other's rows are gone.
    Gone { statement: String, count: String },
    /// An answer that changes when another tenant's rows do.
    Differs { ask: String, change: String },
    /// A statement that is accepted, though it refers to another tenant's row.
    Accepted(String),
}

#[derive(Clone, Debug)]
enum Step {
    /// The administrator's.
    Setup(String),
    /// The application role's.
    Act(String),
}

#[derive(Clone, Debug)]
pub(super) struct Attack {
    role: Identifier,
    superuser: bool,
    steps: Vec<Step>,
    question: Question,
    after: Option<&'static str>,
}

impl Attack {
    pub(super) fn new(role: &str, superuser: bool) -> Self {
        Self {
            role: Identifier::new(role).expect("the catalogs hold no empty or overlong names"),
            superuser,
            steps: Vec::new(),
            question: Question::Rows(String::new()),
            after: None,
        }
    }

    pub(super) fn setup(mut self, statements: impl IntoIterator<Item = String>) -> Self {
        self.steps.extend(statements.into_iter().map(Step::Setup));
        self
    }

    pub(super) fn act_by(mut self, statement: String) -> Self {
        self.steps.push(Step::Act(statement));
        self
    }

    pub(super) fn rows(mut self, question: String) -> Self {
        self.question = Question::Rows(question);
        self
    }

    pub(super) fn affected(mut self, statement: String) -> Self {
        self.question = Question::Affected(statement);
        self
    }

    pub(super) fn gone(mut self, statement: String, count: String) -> Self {
        self.question = Question::Gone { statement, count };
        self
    }

    pub(super) fn differs(mut self, ask: String, change: String) -> Self {
        self.question = Question::Differs { ask, change };
        self
    }

    pub(super) fn accepted(mut self, statement: String) -> Self {
        self.question = Question::Accepted(statement);
        self
    }

    pub(super) fn then(mut self, statement: &'static str) -> Self {
        self.after = Some(statement);
        self
    }

    pub(super) fn question(&self) -> &Question {
        &self.question
    }

    /// Becoming the application role as a log-in would, so that `set role` asks for its memberships and not for the
    /// administrator's; only a superuser may.
    pub(super) fn act(&self) -> String {
        if self.superuser {
            format!("set local session authorization {}", self.role)
        } else {
            format!("set local role {}", self.role)
        }
    }

    /// Being the administrator again.
    pub(super) fn back(&self) -> &'static str {
        if self.superuser {
            "reset session authorization"
        } else {
            "reset role"
        }
    }

    /// All statements up to the question.
    pub(super) fn before(&self) -> Vec<String> {
        let (mut statements, mut acting) = (Vec::new(), false);
        for step in &self.steps {
            match step {
                Step::Setup(statement) => {
                    if acting {
                        statements.push(self.back().to_owned());
                        acting = false;
                    }
                    statements.push(statement.clone());
                }
                Step::Act(statement) => {
                    if !acting {
                        statements.push(self.act());
                        acting = true;
                    }
                    statements.push(statement.clone());
                }
            }
        }
        if !acting {
            statements.push(self.act());
        }
        statements
    }

    pub(super) fn says(&self, rows: i64) -> String {
        match &self.question {
            Question::Rows(_) => format!("returned {rows} rows of other tenants"),
            Question::Affected(statement) if statement.starts_with("insert") => {
                format!("put {rows} rows into another tenant")
            }
            Question::Affected(_) => format!("changed {rows} rows of other tenants"),
            Question::Gone { .. } => "the other tenant's rows were gone or changed afterwards".to_owned(),
            Question::Differs { .. } => "the answer changes with another tenant's rows".to_owned(),
            Question::Accepted(_) => "was accepted".to_owned(),
        }
    }

    /// For a person, from psql as the administrator.
    pub(super) fn script(&self) -> String {
        let mut lines = vec!["begin".to_owned()];
        lines.extend(self.before());
        match &self.question {
            Question::Rows(statement) | Question::Affected(statement) | Question::Accepted(statement) => {
                lines.push(statement.clone());
            }
            Question::Gone { statement, count } => {
                lines.extend([statement.clone(), self.back().to_owned(), count.clone()]);
            }
            Question::Differs { ask, change } => {
                lines.extend([
                    ask.clone(),
                    self.back().to_owned(),
                    change.clone(),
                    self.act(),
                    ask.clone(),
                ]);
            }
        }
        lines.extend(self.after.map(str::to_owned));
        lines.push("rollback".to_owned());
        lines.join(";\n") + ";"
    }
}
