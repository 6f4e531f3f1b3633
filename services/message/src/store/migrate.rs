//! Creates this service's tables.

use std::time::Duration;

use kit::config::CqlFlavor;
use scylla::{client::session::Session, statement::Statement};

use super::{Result, StoreError};

/// All migrations in order. A name, once released, keeps its content.
const MIGRATIONS: [(&str, &str); 23] = [
    ("0001_create_messages", include_str!("../../migrations/0001_create_messages.cql")),
    ("0002_create_message_keys", include_str!("../../migrations/0002_create_message_keys.cql")),
    ("0003_create_chat_heads", include_str!("../../migrations/0003_create_chat_heads.cql")),
    ("0004_create_log_positions", include_str!("../../migrations/0004_create_log_positions.cql")),
    ("0005_create_chat_standings", include_str!("../../migrations/0005_create_chat_standings.cql")),
    ("0006_add_changes", include_str!("../../migrations/0006_add_changes.cql")),
    ("0007_add_texts", include_str!("../../migrations/0007_add_texts.cql")),
    ("0008_create_chat_reactions", include_str!("../../migrations/0008_create_chat_reactions.cql")),
    ("0009_add_calls", include_str!("../../migrations/0009_add_calls.cql")),
    ("0010_place_heads", include_str!("../../migrations/0010_place_heads.cql")),
    ("0011_create_user_marks", include_str!("../../migrations/0011_create_user_marks.cql")),
    ("0012_create_user_calls", include_str!("../../migrations/0012_create_user_calls.cql")),
    ("0013_create_moved_heads", include_str!("../../migrations/0013_create_moved_heads.cql")),
    ("0014_add_more_to_messages", include_str!("../../migrations/0014_add_more_to_messages.cql")),
    ("0015_create_chat_replies", include_str!("../../migrations/0015_create_chat_replies.cql")),
    ("0016_create_chat_pins", include_str!("../../migrations/0016_create_chat_pins.cql")),
    ("0017_add_expiry", include_str!("../../migrations/0017_add_expiry.cql")),
    ("0018_add_ttl", include_str!("../../migrations/0018_add_ttl.cql")),
    ("0019_add_last_record", include_str!("../../migrations/0019_add_last_record.cql")),
    ("0020_add_moved_chats", include_str!("../../migrations/0020_add_moved_chats.cql")),
    ("0021_add_time_of_heads", include_str!("../../migrations/0021_add_time_of_heads.cql")),
    ("0022_add_attachments", include_str!("../../migrations/0022_add_attachments.cql")),
    ("0023_add_newest_key", include_str!("../../migrations/0023_add_newest_key.cql")),
];

/// Which migrations have run. The gateway between old and new code: an old process ignores later rows.
const CREATE_APPLIED: &str = "CREATE TABLE IF NOT EXISTS message_migrations (name text PRIMARY KEY)";
const SELECT_APPLIED: &str = "SELECT name FROM message_migrations";
const SELECT_COLUMN: &str = "SELECT column_name FROM system_schema.columns \
    WHERE keyspace_name = ? AND table_name = ? AND column_name = ?";
const INSERT_APPLIED: &str = "INSERT INTO message_migrations (name) VALUES (?)";
/// A change of the schema waits for those of other tenants: more than ten seconds were seen on a busy store.
const SCHEMA_TIMEOUT: Duration = Duration::from_secs(60);

/// Runs what has not run in the session's keyspace and returns the names of it.
///
/// Two processes may do so concurrently: each statement is idempotent, and what has run is not run again.
pub async fn migrate(session: &Session, flavor: CqlFlavor) -> Result<Vec<&'static str>> {
    let failed = |step: String| move |source| StoreError { step, source };
    let applied = applied(session).await.map_err(failed("read the applied migrations".to_owned()))?;
    let mut done = Vec::new();
    for (name, text) in MIGRATIONS {
        if applied.iter().any(|applied| applied == name) {
            continue;
        }
        let run = async {
            for statement in statements(text, flavor) {
                change_schema(session, &statement).await?;
            }
            session.query_unpaged(INSERT_APPLIED, (name,)).await?;
            Ok(())
        };
        run.await.map_err(failed(format!("run migration {name}")))?;
        done.push(name);
    }
    Ok(done)
}

async fn applied(
    session: &Session,
) -> std::result::Result<Vec<String>, Box<dyn std::error::Error + Send + Sync>> {
    session.query_unpaged(schema_change(CREATE_APPLIED), ()).await?;
    let rows = session.query_unpaged(SELECT_APPLIED, ()).await?.into_rows_result()?;
    let names = rows.rows::<(String,)>()?;
    Ok(names.map(|row| row.map(|(name,)| name)).collect::<std::result::Result<_, _>>()?)
}

/// Runs a statement that changes nothing when it has run before. CQL says so for a table; for a column ScyllaDB has no such
/// form.
async fn change_schema(
    session: &Session,
    statement: &str,
) -> std::result::Result<(), Box<dyn std::error::Error + Send + Sync>> {
    let Err(error) = session.query_unpaged(schema_change(statement), ()).await else { return Ok(()) };
    match added_column(statement) {
        Some((table, column)) if has_column(session, table, column).await? => Ok(()),
        Some(_) | None => Err(error.into()),
    }
}

/// Returns the table and the first column of `ALTER TABLE ... ADD (...)`.
fn added_column(statement: &str) -> Option<(&str, &str)> {
    let (table, columns) = statement.strip_prefix("ALTER TABLE ")?.split_once(" ADD (")?;
    Some((table, columns.split_whitespace().next()?))
}

async fn has_column(
    session: &Session,
    table: &str,
    column: &str,
) -> std::result::Result<bool, Box<dyn std::error::Error + Send + Sync>> {
    let keyspace = session.get_keyspace();
    let keyspace = keyspace.as_ref().map(|keyspace| keyspace.as_str()).unwrap_or_default();
    let found = session.query_unpaged(SELECT_COLUMN, (keyspace, table, column)).await?;
    Ok(found.into_rows_result()?.rows_num() > 0)
}

fn schema_change(text: impl Into<String>) -> Statement {
    let mut statement = Statement::new(text);
    statement.set_request_timeout(Some(SCHEMA_TIMEOUT));
    statement
}

/// The table options that the two stores spell differently; everything else is the same for both.
const fn compaction(flavor: CqlFlavor) -> &'static str {
    match flavor {
        // Space for ever-growing tables without doubling the disk; ScyllaDB only.
        CqlFlavor::Scylla => "{'class': 'IncrementalCompactionStrategy'}",
        // What Cassandra 5 recommends for new tables.
        CqlFlavor::Cassandra => "{'class': 'UnifiedCompactionStrategy'}",
    }
}

fn statements(text: &str, flavor: CqlFlavor) -> Vec<String> {
    let code = text.lines().filter(|line| !line.starts_with("--")).collect::<Vec<_>>().join("\n");
    let filled = code.replace("{{compaction}}", compaction(flavor));
    filled.split(';').map(str::trim).filter(|text| !text.is_empty()).map(str::to_owned).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_migration_file_is_declared_in_order() {
        let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/migrations");
        let mut files: Vec<String> = std::fs::read_dir(folder)
            .expect("the migrations folder")
            .map(|file| file.expect("an entry").file_name().to_string_lossy().replace(".cql", ""))
            .collect();
        files.sort();
        assert_eq!(files, MIGRATIONS.map(|(name, _)| name));
    }

    #[test]
    fn a_migration_is_one_idempotent_statement_without_placeholders() {
        for (name, text) in MIGRATIONS {
            for flavor in [CqlFlavor::Scylla, CqlFlavor::Cassandra] {
                let statements = statements(text, flavor);
                let [statement] = statements.as_slice() else { panic!("{name} is not one statement") };
                let repeats = statement.starts_with("CREATE TABLE IF NOT EXISTS ")
                    || added_column(statement).is_some_and(|(_, column)| !column.is_empty());
                assert!(repeats, "{name}: {statement}");
                assert!(!statement.contains("{{"), "{name}: {statement}");
            }
        }
    }
}
