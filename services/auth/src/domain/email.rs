//! What is sent to the addresses of users.

pub use kit::mail::{Email, Mail};

/// Returns the mail with a link that replaces a password. `origin` is the tenant's address.
pub fn password_mail(origin: &str, token: &str) -> Mail {
    let host = host(origin);
    Mail {
        subject: format!("Your password at {host}"),
        text: format!(
            "You, or someone else, asked to replace the password of your account at {host}. To choose a new one, open this link \
             within 15 minutes:\n\n{origin}/#password_reset={token}\n\nAll devices are signed out then. If it was not you, do \
             nothing: your password stays as it is.\n"
        ),
        unsubscribe: None,
    }
}

/// Returns the mail with a link that confirms an address.
pub fn confirmation_mail(origin: &str, token: &str) -> Mail {
    let host = host(origin);
    Mail {
        subject: format!("Your e-mail address at {host}"),
        text: format!(
            "This address was entered for an account at {host}. To confirm that it is yours, open this link within 15 \
             minutes:\n\n{origin}/#email_confirmation={token}\n\nIf it was not you, do nothing.\n"
        ),
        unsubscribe: None,
    }
}

/// Returns the mail to an address that is no longer that of an account.
pub fn farewell_mail(origin: &str) -> Mail {
    let host = host(origin);
    Mail {
        subject: format!("Your e-mail address at {host}"),
        text: format!(
            "Another address took the place of this one for your account at {host}. Links for a new password go there from now on.\n\nIf it \
             was not you, sign in at {origin}/, choose another password, and enter your address again. If you cannot sign in, ask an \
             administrator.\n"
        ),
        unsubscribe: None,
    }
}

fn host(origin: &str) -> &str {
    origin.split_once("://").map_or(origin, |(_, host)| host)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_link_has_its_token_where_no_server_reads_it() {
        let mail = password_mail("https://acme.example:8443", "TOKEN");
        assert!(
            mail.text.contains("\n\nhttps://acme.example:8443/#password_reset=TOKEN\n\n"),
            "{}",
            mail.text
        );
        assert_eq!(mail.subject, "Your password at acme.example:8443");
        assert!(confirmation_mail("https://acme.example", "T").text.contains("/#email_confirmation=T\n"));
    }
}
