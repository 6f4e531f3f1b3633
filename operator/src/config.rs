//! Arguments of the operator. Each is also read from the environment variable of the same name in upper case.

use std::{
    net::{Ipv6Addr, SocketAddr},
    path::PathBuf,
    time::Duration,
};

use anyhow::Context as _;
use clap::{Parser, ValueEnum};
use secrecy::SecretString;
use traces::TracesArgs;

/// The operator's name at the API server: field manager of what it applies, reporter of its Events, and value of
/// `app.kubernetes.io/managed-by` on every child.
pub(crate) const OPERATOR_NAME: &str = "posthouse-operator";

/// Keeps messenger tenants as their resources declare.
#[derive(Clone, Debug, Parser)]
#[command(name = "operator", version)]
pub struct Config {
    #[command(subcommand)]
    pub command: Option<Command>,

    /// The operator's own namespace: its lease and the cells' admin Secrets are there.
    #[arg(long, env = "POD_NAMESPACE", default_value = "posthouse-system")]
    pub namespace: String,

    /// This replica's name in the lease and in Events. Defaults to the host's name and the process id.
    #[arg(long, env = "POD_NAME")]
    pub pod_name: Option<String>,

    #[command(flatten)]
    pub images: Images,

    /// Where /livez, /readyz and /metrics are served.
    #[arg(long, env, default_value = "0.0.0.0:8081")]
    pub management_addr: SocketAddr,

    /// Where the waker is served, which Traefik asks about requests for tenants that sleep.
    #[arg(long, env, default_value = "0.0.0.0:8084")]
    pub waker_addr: SocketAddr,

    /// URL of the waker, as Traefik finds it.
    #[arg(long, env, default_value = "http://posthouse-waker.posthouse-system.svc")]
    pub waker_url: url::Url,

    /// What a client of /metrics presents as its bearer token. Without one, every client that reaches the port reads them.
    #[arg(long, env, hide = true, hide_env_values = true, value_parser = secret)]
    pub metrics_token: Option<SecretString>,

    /// Tenants that are worked on at the same time.
    #[arg(long, env, default_value_t = 8, value_parser = clap::value_parser!(u16).range(1..=64))]
    pub concurrency: u16,

    /// A tenant that is Ready is compared with cluster and backends again after this time, a tenth earlier or later.
    #[arg(long, env, default_value = "60", value_parser = seconds)]
    pub drift_seconds: Duration,

    #[arg(long, env, default_value = "json")]
    pub log_format: LogFormat,

    /// Where the spans of passes go. Those of the services go where their cell says.
    #[command(flatten)]
    pub traces: TracesArgs,

    /// Certificates in PEM that are trusted at that collector beside the public ones.
    #[arg(long, env)]
    pub otlp_ca_bundle: Option<String>,
}

/// What to do instead of operating.
#[derive(Clone, Debug, clap::Subcommand)]
pub enum Command {
    /// Requests a URL and fails unless it returns 200: the image has no shell that could.
    Check {
        /// http://host:port/path
        url: url::Url,
    },
    /// Serves the host's console. It has no rights: each call has those of its caller.
    Console(ConsoleSettings),
}

/// Where the console is served, and where it finds the API server.
#[derive(Clone, Debug, clap::Args)]
pub struct ConsoleSettings {
    /// Where the page and its calls are served.
    #[arg(long, env, default_value = "0.0.0.0:8083")]
    pub console_addr: SocketAddr,

    /// URL of the API server. Defaults to what Kubernetes tells a pod.
    #[arg(long, env)]
    pub api_server: Option<http::Uri>,

    /// Certificates in PEM by which the API server is known, a file that is read again when it changes. Defaults to the public ones.
    #[arg(long, env)]
    pub api_ca: Option<PathBuf>,

    #[arg(long, env, hide = true)]
    pub kubernetes_service_host: Option<String>,

    #[arg(long, env, hide = true, default_value_t = 443)]
    pub kubernetes_service_port: u16,
}

impl ConsoleSettings {
    /// Returns the URL of the API server.
    pub fn server(&self) -> anyhow::Result<http::Uri> {
        if let Some(server) = &self.api_server {
            return Ok(server.clone());
        }
        let host = self.kubernetes_service_host.as_deref();
        let host = host.context("--api-server is required outside of a pod, as in https://host:6443")?;
        let host = if host.parse::<Ipv6Addr>().is_ok() { format!("[{host}]") } else { host.to_owned() };
        let url = format!("https://{host}:{}", self.kubernetes_service_port);
        url.parse::<http::Uri>().with_context(|| format!("{url} is not a URL"))
    }
}

/// The images of the services.
#[derive(Clone, Debug, clap::Args)]
pub struct Images {
    /// A service's image is `<repository>/<service>:<tag>`.
    #[arg(long = "image-repository", env = "IMAGE_REPOSITORY", default_value = "posthouse")]
    pub repository: String,

    /// Tag of every service image. It never is `latest`: a Deployment shows which version runs.
    #[arg(long = "image-tag", env = "IMAGE_TAG", default_value = env!("CARGO_PKG_VERSION"))]
    pub tag: String,

    #[arg(long = "image-pull-policy", env = "IMAGE_PULL_POLICY", default_value = "IfNotPresent")]
    pub pull_policy: PullPolicy,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
#[value(rename_all = "verbatim")]
pub enum PullPolicy {
    Always,
    IfNotPresent,
    Never,
}

impl PullPolicy {
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Always => "Always",
            Self::IfNotPresent => "IfNotPresent",
            Self::Never => "Never",
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum LogFormat {
    Json,
    Text,
}

impl Config {
    /// Returns the name of this replica: unique among those that may hold the lease at the same time.
    #[expect(clippy::disallowed_methods, reason = "an edge: the identity of a process without a pod name")]
    pub fn identity(&self) -> String {
        let host = || std::env::var("HOSTNAME").unwrap_or_else(|_| "operator".to_owned());
        format!("{}-{}", self.pod_name.clone().unwrap_or_else(host), uuid::Uuid::new_v4().simple())
    }
}

fn secret(text: &str) -> Result<SecretString, std::convert::Infallible> {
    Ok(SecretString::from(text.to_owned()))
}

fn seconds(text: &str) -> Result<Duration, String> {
    match text.parse() {
        Ok(seconds @ 5..=86_400) => Ok(Duration::from_secs(seconds)),
        Ok(_) => Err("must lie between 5 and 86400".to_owned()),
        Err(_) => Err("is not a number of seconds".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arguments_have_defaults_for_a_pod() {
        let config =
            Config::try_parse_from(["operator", "--image-tag", "abc"]).expect("defaults are complete");
        assert_eq!((config.concurrency, config.drift_seconds.as_secs()), (8, 60));
        assert_eq!(config.images.tag, "abc");
        assert_ne!(config.identity(), config.identity());
    }

    #[test]
    fn a_check_is_a_command_of_its_own() {
        let config = Config::try_parse_from(["operator", "check", "http://posthouse-operator:8081/readyz"]);
        assert!(matches!(config.expect("a check").command, Some(Command::Check { .. })));
    }

    #[test]
    fn a_console_finds_the_api_server_as_a_pod_does_or_where_it_is_said() {
        let server = |arguments: &[&str]| {
            let all = ["operator", "--log-format", "text", "console"].iter().chain(arguments);
            let config = Config::try_parse_from(all).expect("arguments");
            let Some(Command::Console(settings)) = config.command else { panic!("another command") };
            settings.server().map(|server| server.to_string())
        };
        let host = "--kubernetes-service-host";
        for (arguments, expected) in [
            (&[host, "10.0.0.1"][..], "https://10.0.0.1:443/"),
            (&[host, "fd00::1", "--kubernetes-service-port", "6443"][..], "https://[fd00::1]:6443/"),
            (
                &[host, "10.0.0.1", "--api-server", "https://api.example:6443"][..],
                "https://api.example:6443/",
            ),
        ] {
            assert_eq!(server(arguments).expect("an address"), expected);
        }
        let missing = server(&[]).expect_err("there is none");
        assert!(missing.to_string().contains("--api-server is required"), "{missing}");
    }

    #[test]
    fn a_drift_check_cannot_become_a_storm() {
        assert!(Config::try_parse_from(["operator", "--drift-seconds", "1"]).is_err());
    }
}
