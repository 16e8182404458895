//! New ids for the rows of a tenant that is made of other rows: what is wanted, and what is said of it.

use clap::Args;
use tenantry_ops::{IdPlan, RowIds};

/// Which ids rows get.
#[derive(Args, Debug)]
pub(super) struct NewIds {
    /// Give the rows new ids, in keys of one column (uuid or integer) and wherever foreign keys refer to them [default: those they have]
    #[arg(long)]
    new_ids: bool,
    /// With --new-ids: a uuid column that holds ids of rows without a foreign key; can be given several times
    #[arg(long, value_name = "TABLE.COLUMN", requires = "new_ids")]
    also_new: Vec<String>,
}

impl NewIds {
    pub(super) fn wanted(self) -> RowIds {
        match self.new_ids {
            true => RowIds::New { also: self.also_new },
            false => RowIds::Kept,
        }
    }
}

/// Says it before anything is made, on stderr: the answer on stdout is the tenant.
pub(super) fn tell(plan: &IdPlan) {
    eprint!("{}", text(plan));
}

fn text(plan: &IdPlan) -> String {
    let mut text = match plan.renewed.as_slice() {
        [] => "no column gets new ids\n".to_owned(),
        renewed => format!("new ids: {}\n", renewed.join(", ")),
    };
    for kept in &plan.kept {
        text.push_str(&format!("kept: {}: {}\n", kept.column, kept.reason));
    }
    if !plan.not_followed.is_empty() {
        text.push_str(&format!(
            "not looked into, whatever ids stand there: {}\n",
            plan.not_followed.join(", ")
        ));
    }
    text
}
