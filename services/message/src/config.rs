//! Settings of the message service.

use clap::{Parser, ValueEnum};
use kit::config::{CqlArgs, KafkaArgs, OidcArgs, ServiceArgs};

/// Assigns sequence numbers, stores messages and answers for their history.
#[derive(Clone, Debug, Parser)]
#[command(version)]
pub struct Config {
    #[arg(value_enum, default_value = "run")]
    pub command: Command,
    #[command(flatten)]
    pub service: ServiceArgs,
    #[command(flatten)]
    pub oidc: OidcArgs,
    #[command(flatten)]
    pub kafka: KafkaArgs,
    #[command(flatten)]
    pub cql: CqlArgs,
    /// The id that Kafka gave the topic message.send. A topic made anew has another one, and its offsets start
    /// again at 0: with the old id here its records would count as applied.
    #[arg(long, env)]
    pub send_topic_generation: String,
    /// URL of the chat service's gRPC API, which knows who is in a chat.
    #[arg(long, env)]
    pub chat_grpc: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Command {
    /// Consumes, stores and answers until SIGTERM.
    Run,
    /// Creates this service's tables and ends.
    Migrate,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_may_stand_before_or_behind_the_flags() {
        let flags = [
            "--tenant=acme",
            "--internal-token=t",
            "--oidc-issuer=http://realm",
            "--kafka-bootstrap-servers=k:9092",
            "--kafka-username=acme",
            "--kafka-password=p",
            "--cql-contact-points=a:9042,b:9042",
            "--cql-keyspace=mt_acme",
            "--cql-flavor=cassandra",
            "--cql-username=mt_acme",
            "--cql-password=p",
            "--send-topic-generation=Zm9v",
            "--chat-grpc=http://acme-chat:9090",
        ];
        let parse = |args: Vec<&str>| Config::try_parse_from(args).expect("arguments");
        let plain = parse([&["message"], &flags[..]].concat());
        assert_eq!(plain.command, Command::Run);
        assert_eq!(plain.cql.cql_contact_points, ["a:9042", "b:9042"]);
        assert_eq!(parse([&["message", "migrate"], &flags[..]].concat()).command, Command::Migrate);
        assert_eq!(parse([&["message"], &flags[..], &["migrate"]].concat()).command, Command::Migrate);
    }
}
