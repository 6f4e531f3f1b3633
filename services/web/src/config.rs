//! Arguments of the process.

use std::fmt;

use url::Url;

#[derive(Clone, Debug, clap::Args)]
pub struct Settings {
    /// Where browsers find the realm. The process reads the same argument.
    #[arg(long, env)]
    pub oidc_issuer: String,
    /// Where browsers send files; empty where the tenant has no media service.
    #[arg(long, env, default_value = "", value_parser = upload_origin)]
    pub upload_origin: UploadOrigin,
    /// What users read as the name of the messenger; the tenant's id where it is empty.
    #[arg(long, env, default_value = "")]
    pub brand_name: String,
    /// The tenant's colour, as `#rrggbb`.
    #[arg(long, env, value_parser = color)]
    pub brand_color: Option<String>,
    /// A picture that is shown beside the name, as a `data:` URL of PNG, JPEG or WebP.
    #[arg(long, env, value_parser = logo)]
    pub brand_logo: Option<Logo>,
}

/// A picture as a `data:` URL. Its kilobytes are of no use in a log.
#[derive(Clone, PartialEq, Eq)]
pub struct Logo(pub String);

impl fmt::Debug for Logo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "a picture of {} bytes", self.0.len())
    }
}

fn color(text: &str) -> Result<String, &'static str> {
    let digits = text.strip_prefix('#').filter(|digits| digits.len() == 6);
    let is_color = digits.is_some_and(|digits| digits.bytes().all(|byte| byte.is_ascii_hexdigit()));
    if is_color { Ok(text.to_owned()) } else { Err("a colour is # and six hexadecimal digits") }
}

fn logo(text: &str) -> Result<Logo, &'static str> {
    let is_picture = ["png", "jpeg", "webp"].iter().any(|kind| {
        text.strip_prefix("data:image/").is_some_and(|rest| rest.starts_with(&format!("{kind};base64,")))
    });
    if is_picture {
        Ok(Logo(text.to_owned()))
    } else {
        Err("a logo is data:image/<png, jpeg or webp>;base64,<data>")
    }
}

/// An address that pages may send files to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct UploadOrigin(pub Option<Url>);

fn upload_origin(text: &str) -> Result<UploadOrigin, url::ParseError> {
    if text.is_empty() { Ok(UploadOrigin(None)) } else { Ok(UploadOrigin(Some(text.parse()?))) }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Debug, Parser)]
    struct Line {
        #[command(flatten)]
        settings: Settings,
    }

    fn parse(arguments: &[&str]) -> Result<Settings, clap::Error> {
        let line = ["web", "--oidc-issuer", "https://id.example/realms/acme"].iter().chain(arguments);
        Line::try_parse_from(line).map(|line| line.settings)
    }

    #[test]
    fn a_tenant_is_called_what_it_wants() {
        for name in ["Acme", "-Acme", "--Acme & Sons--", "Почта"] {
            assert_eq!(parse(&[&format!("--brand-name={name}")]).expect("a name").brand_name, name);
        }
        assert_eq!(parse(&[]).expect("there are defaults").brand_name, "");
    }

    #[test]
    fn what_is_no_colour_and_no_picture_is_refused() {
        for (color, is_taken) in
            [("#0a7B5c", true), ("0a7b5c", false), ("#fff", false), ("#0a7b5c;", false), ("#яяя", false)]
        {
            assert_eq!(parse(&["--brand-color", color]).is_ok(), is_taken, "{color}");
        }
        for (logo, is_taken) in [
            ("data:image/png;base64,iVBORw0KGgo=", true),
            ("data:image/svg+xml;base64,PHN2Zz4=", false),
            ("https://acme.example/logo.png", false),
        ] {
            assert_eq!(parse(&["--brand-logo", logo]).is_ok(), is_taken, "{logo}");
        }
    }
}
