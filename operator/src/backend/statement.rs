//! Pure: names and texts in statements that take no parameters.

use super::error::BackendError;

/// Checks a name before it becomes part of a statement. Names are valid by construction; this is a second
/// check.
pub(super) fn identifier(backend: catalog::Backend, name: &str) -> Result<&str, BackendError> {
    let known = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_';
    if !name.is_empty() && name.len() <= 48 && name.bytes().all(known) {
        return Ok(name);
    }
    let detail = "the name is not of lower case letters, digits and _ only, or is longer than 48".to_owned();
    Err(BackendError::Refused { backend, action: format!("use the name {name:?}"), detail, retryable: false })
}

/// Quotes text for SQL and CQL.
pub(super) fn literal(text: &str) -> String {
    format!("'{}'", text.replace('\'', "''"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_plain_names_and_quoted_text_reach_a_statement() {
        let backend = catalog::Backend::Cql;
        assert!(identifier(backend, "mt_acme").is_ok());
        for name in ["", "mt-acme", "mt_acme; DROP", "Mt", "a\"b"] {
            assert!(!identifier(backend, name).unwrap_err().is_retryable(), "{name}");
        }
        assert_eq!(literal("it's"), "'it''s'");
    }
}
