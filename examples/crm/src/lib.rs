//! The reference application: contacts, projects, tasks.
