//! Arguments of the process.

use url::Url;

#[derive(Clone, Debug, clap::Args)]
pub struct Settings {
    /// Where browsers find the realm. The process reads the same argument.
    #[arg(long, env)]
    pub oidc_issuer: String,
    /// Where browsers send files; empty where the tenant has no media service.
    #[arg(long, env, default_value = "", value_parser = upload_origin)]
    pub upload_origin: UploadOrigin,
}

/// An address that pages may send files to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct UploadOrigin(pub Option<Url>);

fn upload_origin(text: &str) -> Result<UploadOrigin, url::ParseError> {
    if text.is_empty() { Ok(UploadOrigin(None)) } else { Ok(UploadOrigin(Some(text.parse()?))) }
}
