//! Groups of settings that several services share. A flag is also read from the environment variable of the same
//! name in upper case; secrets are read from the environment only, so that no command line shows them.

use std::{
    net::{IpAddr, Ipv4Addr, SocketAddr},
    str::FromStr,
};

use catalog::{Limit, Rate, Service};
use clap::{Arg, ArgMatches, Args, Command, FromArgMatches, ValueEnum};
use secrecy::SecretString;
use traces::TracesArgs;
use url::Url;

/// What every process needs.
#[derive(Clone, Debug, Args)]
pub struct ServiceArgs {
    /// Id of the tenant this process works for.
    #[arg(long, env)]
    pub tenant: String,
    /// Address of the public HTTP API.
    #[arg(long, env, default_value_t = any_address(catalog::HTTP_PORT))]
    pub http_addr: SocketAddr,
    /// Address of the gRPC API, for the tenant's other services.
    #[arg(long, env, default_value_t = any_address(catalog::GRPC_PORT))]
    pub grpc_addr: SocketAddr,
    /// Address of /livez, /readyz and /metrics.
    #[arg(long, env, default_value_t = any_address(catalog::MANAGEMENT_PORT))]
    pub management_addr: SocketAddr,
    /// The services that the tenant has, in whatever process, separated by commas. A request for another one is answered with
    /// 404, and one for a service of these that has no pod at the moment with 503.
    #[arg(long, env, value_delimiter = ',', default_values_t = Service::ALL.to_vec(), value_parser = service)]
    pub tenant_services: Vec<Service>,
    /// Form of the log lines on standard output.
    #[arg(long, env, default_value = "json")]
    pub log_format: LogFormat,
    #[command(flatten)]
    pub traces: TracesArgs,
    /// Seconds after SIGTERM in which the process serves as before but is not ready, until routers have noticed.
    #[arg(long, env, default_value_t = catalog::UNREADY_SECONDS)]
    pub unready_seconds: u64,
    /// Seconds that open requests and connections get to end after that.
    #[arg(long, env, default_value_t = catalog::DRAIN_SECONDS)]
    pub drain_seconds: u64,
    /// Shared by the tenant's services; every internal gRPC call carries it.
    #[arg(long, env, hide = true, hide_env_values = true, value_parser = secret)]
    pub internal_token: SecretString,
    /// What a client of /metrics presents as its bearer token. Without one, every client that reaches the port reads them.
    #[arg(long, env, hide = true, hide_env_values = true, value_parser = secret)]
    pub metrics_token: Option<SecretString>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum LogFormat {
    Json,
    Text,
}

/// Which tokens are accepted.
#[derive(Clone, Debug, Args)]
pub struct OidcArgs {
    /// The only accepted `iss`. Users reach it; this process need not.
    #[arg(long, env)]
    pub oidc_issuer: String,
    /// Where the keys of the issuer are read. Default: below the issuer.
    #[arg(long, env)]
    pub oidc_keys_url: Option<String>,
    #[command(flatten)]
    pub trust: TrustArgs,
    /// The `aud` that a token must contain.
    #[arg(long, env, default_value = catalog::TOKEN_AUDIENCE)]
    pub oidc_audience: String,
    /// The clients of the realm whose tokens are accepted (`azp`), separated by commas.
    #[arg(long, env, value_delimiter = ',', default_values_t = catalog::TOKEN_CLIENTS.map(str::to_owned))]
    pub oidc_clients: Vec<String>,
}

/// Which servers are trusted. Every group of settings of a server with TLS has it, and all of them read the same argument.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TrustArgs {
    /// Certificates in PEM that are trusted beside the public ones.
    pub oidc_ca_bundle: Option<String>,
}

impl TrustArgs {
    const ID: &str = "oidc_ca_bundle";
}

// By hand: the derived reader takes a value out, so a second group of the same command line would find none.
impl FromArgMatches for TrustArgs {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Self, clap::Error> {
        Ok(Self { oidc_ca_bundle: matches.get_one::<String>(Self::ID).cloned() })
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), clap::Error> {
        *self = Self::from_arg_matches(matches)?;
        Ok(())
    }
}

impl Args for TrustArgs {
    fn augment_args(command: Command) -> Command {
        if command.get_arguments().any(|argument| argument.get_id() == Self::ID) {
            return command;
        }
        let argument =
            Arg::new(Self::ID).long("oidc-ca-bundle").env("OIDC_CA_BUNDLE").value_name("OIDC_CA_BUNDLE");
        command.arg(argument.help(
            "Certificates in PEM that are trusted beside the public ones, at the identity provider and at every backend with TLS",
        ))
    }

    fn augment_args_for_update(command: Command) -> Command {
        Self::augment_args(command)
    }
}

/// How connections to a server are protected whose address has no scheme that says so. There is nothing between these two.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum Tls {
    /// Not at all.
    #[default]
    Disabled,
    /// With TLS, or there is no connection: the certificate is of a trusted authority and names the host.
    VerifyFull,
}

/// The event log.
#[derive(Clone, Debug, Args)]
pub struct KafkaArgs {
    /// Comma-separated `host:port`.
    #[arg(long, env)]
    pub kafka_bootstrap_servers: String,
    /// `sasl_ssl` for TLS: brokers are verified then, by certificates of the bundle in place of the public ones where there is a bundle.
    #[arg(long, env, default_value = "sasl_plaintext")]
    pub kafka_security_protocol: String,
    #[command(flatten)]
    pub trust: TrustArgs,
    #[arg(long, env, hide = true)]
    pub kafka_username: String,
    #[arg(long, env, hide = true, hide_env_values = true, value_parser = secret)]
    pub kafka_password: SecretString,
    /// Ids of the schemas of records in a schema registry, by topic, separated by commas: `acme.message.send=3`. What is written to such
    /// a topic carries the id in a header. Without it no record has one.
    #[arg(long, env, value_delimiter = ',')]
    pub schema_ids: Vec<SchemaId>,
}

/// The id of the schema of a topic's records.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SchemaId {
    pub topic: String,
    pub id: i32,
}

impl FromStr for SchemaId {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let parts = text.split_once('=').and_then(|(topic, id)| Some((topic, id.parse().ok()?)));
        let (topic, id) = parts.ok_or_else(|| format!("{text} is not TOPIC=ID with a number as the id"))?;
        Ok(Self { topic: topic.to_owned(), id })
    }
}

/// The message store.
#[derive(Clone, Debug, Args)]
pub struct CqlArgs {
    /// Comma-separated `host:port`.
    #[arg(long, env, value_delimiter = ',')]
    pub cql_contact_points: Vec<String>,
    /// How connections are protected. Nodes are verified by their IP addresses.
    #[arg(long, env, default_value = "disabled")]
    pub cql_tls: Tls,
    #[command(flatten)]
    pub trust: TrustArgs,
    #[arg(long, env)]
    pub cql_keyspace: String,
    /// Decides table options that ScyllaDB and Cassandra spell differently.
    #[arg(long, env, default_value = "scylla")]
    pub cql_flavor: CqlFlavor,
    #[arg(long, env, hide = true)]
    pub cql_username: String,
    #[arg(long, env, hide = true, hide_env_values = true, value_parser = secret)]
    pub cql_password: SecretString,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum CqlFlavor {
    Scylla,
    Cassandra,
}

/// The relational store.
#[derive(Clone, Debug, Args)]
pub struct PostgresArgs {
    #[arg(long, env)]
    pub postgres_host: String,
    #[arg(long, env, default_value_t = 5432)]
    pub postgres_port: u16,
    /// How connections are protected.
    #[arg(long, env, default_value = "disabled")]
    pub postgres_tls: Tls,
    #[command(flatten)]
    pub trust: TrustArgs,
    #[arg(long, env)]
    pub postgres_database: String,
    #[arg(long, env, hide = true)]
    pub postgres_username: String,
    #[arg(long, env, hide = true, hide_env_values = true, value_parser = secret)]
    pub postgres_password: SecretString,
}

/// The cache.
#[derive(Clone, Debug, Args)]
pub struct RedisArgs {
    /// `host:port`.
    #[arg(long, env)]
    pub redis_addr: String,
    /// How connections are protected. Where there is a bundle, its certificates are trusted in place of the public ones.
    #[arg(long, env, default_value = "disabled")]
    pub redis_tls: Tls,
    #[command(flatten)]
    pub trust: TrustArgs,
    #[arg(long, env, hide = true)]
    pub redis_username: String,
    #[arg(long, env, hide = true, hide_env_values = true, value_parser = secret)]
    pub redis_password: SecretString,
}

/// The object store.
#[derive(Clone, Debug, Args)]
pub struct S3Args {
    /// URL at which this process reaches it.
    #[arg(long, env)]
    pub s3_endpoint: String,
    /// URL at which users reach it: what they upload, they send there. Default: the same.
    #[arg(long, env)]
    pub s3_public_endpoint: Option<String>,
    #[arg(long, env, default_value = "us-east-1")]
    pub s3_region: String,
    #[arg(long, env)]
    pub s3_bucket: String,
    #[arg(long, env, hide = true)]
    pub s3_access_key: String,
    #[arg(long, env, hide = true, hide_env_values = true, value_parser = secret)]
    pub s3_secret_key: SecretString,
}

/// The message broker of the cell, where it has one.
#[derive(Clone, Debug, Default, Args)]
pub struct RabbitMqArgs {
    /// `amqp://host:port`, or `amqps://host:port` with TLS. Without it jobs come from the database.
    #[arg(
        long,
        env,
        requires = "rabbitmq_virtual_host",
        requires = "rabbitmq_username",
        requires = "rabbitmq_password"
    )]
    pub rabbitmq_url: Option<Url>,
    /// The tenant's virtual host.
    #[arg(long, env)]
    pub rabbitmq_virtual_host: Option<String>,
    #[arg(long, env, hide = true)]
    pub rabbitmq_username: Option<String>,
    #[arg(long, env, hide = true, hide_env_values = true, value_parser = secret)]
    pub rabbitmq_password: Option<SecretString>,
}

/// The mail server of the cell.
#[derive(Clone, Debug, Default, Args)]
pub struct MailArgs {
    /// `smtps://host:port` for TLS from the first byte, `smtp://host:port?tls=required` for STARTTLS, `smtp://host:port` for neither.
    /// Without it no mail is sent.
    #[arg(long, env, requires = "smtp_from")]
    pub smtp_url: Option<Url>,
    /// The address that mail comes from.
    #[arg(long, env)]
    pub smtp_from: Option<String>,
    #[arg(long, env, hide = true, requires = "smtp_password")]
    pub smtp_username: Option<String>,
    #[arg(long, env, hide = true, hide_env_values = true, value_parser = secret)]
    pub smtp_password: Option<SecretString>,
}

/// How much is sent, by hand and at a time. Each is a [`Limit`], which says what it counts.
#[derive(Clone, Copy, Debug, Args)]
pub struct SendRates {
    /// Entries of one user: so many a second, and so many at once.
    #[arg(long, env, default_value_t = Limit::UserSends.default_rate())]
    pub user_sends: Rate,
    /// Bytes of one user, likewise.
    #[arg(long, env, default_value_t = Limit::UserBytes.default_rate())]
    pub user_bytes: Rate,
    /// Entries in one chat.
    #[arg(long, env, default_value_t = Limit::ChatSends.default_rate())]
    pub chat_sends: Rate,
    /// Bytes in one chat.
    #[arg(long, env, default_value_t = Limit::ChatBytes.default_rate())]
    pub chat_bytes: Rate,
    /// Entries of all users.
    #[arg(long, env, default_value_t = Limit::TenantSends.default_rate())]
    pub tenant_sends: Rate,
    /// Bytes of all users.
    #[arg(long, env, default_value_t = Limit::TenantBytes.default_rate())]
    pub tenant_bytes: Rate,
}

impl SendRates {
    /// Those of a tenant that says nothing else.
    pub const DEFAULT: Self = Self {
        user_sends: Limit::UserSends.default_rate(),
        user_bytes: Limit::UserBytes.default_rate(),
        chat_sends: Limit::ChatSends.default_rate(),
        chat_bytes: Limit::ChatBytes.default_rate(),
        tenant_sends: Limit::TenantSends.default_rate(),
        tenant_bytes: Limit::TenantBytes.default_rate(),
    };
}

impl Default for SendRates {
    fn default() -> Self {
        Self::DEFAULT
    }
}

const fn any_address(port: u16) -> SocketAddr {
    SocketAddr::new(IpAddr::V4(Ipv4Addr::UNSPECIFIED), port)
}

/// Parses a limit or a rate; with 0 a client would wait without end.
pub fn positive() -> clap::builder::RangedI64ValueParser<u32> {
    clap::value_parser!(u32).range(1..)
}

fn service(name: &str) -> Result<Service, String> {
    Service::parse(name).ok_or_else(|| format!("no service has the name {name}"))
}

/// Wraps a secret setting, so that Debug output never shows it.
pub fn secret(text: &str) -> Result<SecretString, std::convert::Infallible> {
    Ok(SecretString::from(text.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, Args)]
    struct Settings {
        #[command(flatten)]
        postgres: PostgresArgs,
        #[command(flatten)]
        trust: TrustArgs,
    }

    fn read(more: &[&str]) -> Settings {
        let line = [
            "test",
            "--postgres-host=database",
            "--postgres-database=mt_acme",
            "--postgres-username=mt_acme",
            "--postgres-password=secret",
        ];
        let command = Settings::augment_args(Command::new("test"));
        let matches = command.try_get_matches_from(line.iter().chain(more)).expect("a legal line");
        Settings::from_arg_matches(&matches).expect("legal settings")
    }

    #[test]
    fn every_server_with_tls_is_trusted_by_the_same_bundle() {
        let Settings { postgres, trust } = read(&["--postgres-tls=verify-full", "--oidc-ca-bundle=PEM"]);
        assert_eq!(postgres.postgres_tls, Tls::VerifyFull);
        assert_eq!(trust.oidc_ca_bundle.as_deref(), Some("PEM"));
        assert_eq!(postgres.trust, trust);
        let Settings { postgres, trust } = read(&[]);
        assert_eq!(postgres.postgres_tls, Tls::Disabled);
        assert_eq!((postgres.trust, trust), Default::default());
    }

    #[test]
    fn the_id_of_a_schema_is_a_number_behind_a_topic() {
        let id = SchemaId { topic: "acme.message.send".to_owned(), id: 3 };
        assert_eq!("acme.message.send=3".parse::<SchemaId>(), Ok(id));
        for wrong in ["", "acme.message.send", "acme.message.send=", "acme.message.send=three"] {
            let refused = wrong.parse::<SchemaId>().expect_err("it is refused");
            assert!(refused.starts_with(&format!("{wrong} is not TOPIC=ID")), "{refused}");
        }
    }
}
