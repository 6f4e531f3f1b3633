//! The services of a tenant.

use crate::{Backend, Limit, Secret};

/// What one service is and needs.
#[derive(Debug)]
pub struct ServiceEntry {
    /// Name of the crate, the binary, the image, the key below `spec.services`, the path below `/docs`, and the end of
    /// every child's name.
    pub name: &'static str,
    /// What it does, in one sentence: `kubectl explain` and the index of `/docs` print it.
    pub about: &'static str,
    /// The tenant may switch it off. The others are the messenger itself.
    pub is_optional: bool,
    /// Of optional ones: a tenant has it only where it requests it. The others are there until they are switched off.
    pub is_on_request: bool,
    /// Systems that must have been set up before the service can start. Once it runs it is updated whatever they do.
    pub backends: &'static [Backend],
    /// Likewise, of a tenant that chooses them; without the choice it does without.
    pub chosen_backends: &'static [Backend],
    /// Systems that it uses where the cell has them; it does its work without, and starts without.
    pub optional_backends: &'static [Backend],
    /// Secrets that its pods receive.
    pub secrets: &'static [Secret],
    /// Services it calls over gRPC; it reads `--<peer>-grpc`. Every service but the user service itself calls that one: the verifier of
    /// tokens requires that their users have profiles.
    pub peers: &'static [Service],
    /// Optional services that it calls where the tenant has them; it does its work without. It reads `--<peer>-grpc`, too.
    pub optional_peers: &'static [Service],
    /// Settings of its own that follow from the tenant.
    pub settings: &'static [Setting],
    /// Path prefixes of its API on the tenant's address. `/docs/<name>` is every service's.
    pub path_prefixes: &'static [&'static str],
    /// Paths that are its own when they match whole.
    pub paths: &'static [&'static str],
    /// Likewise; requests to them go to the same replica from a client that keeps cookies.
    pub sticky_paths: &'static [&'static str],
    /// The document that describes its API, below `/docs/<name>/`. A request for it proves the route.
    pub description: &'static str,
    /// Sessions of PostgreSQL in each process beside [`crate::POSTGRES_POOL`].
    pub postgres_sessions: u32,
    /// It has tables of its own, made by `<binary> migrate` before `run`.
    pub migrates: bool,
    /// Requested processor time of a pod when the tenant names none, as a Kubernetes quantity; likewise the next two.
    pub cpu_request: &'static str,
    pub memory_request: &'static str,
    pub memory_limit: &'static str,
}

/// A setting that a service has for itself and whose value follows from the tenant. Settings that follow from
/// [`ServiceEntry::backends`], [`ServiceEntry::optional_backends`] and [`ServiceEntry::peers`] are not repeated here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Setting {
    /// `--keycloak-url`: where the realm is administered.
    KeycloakUrl,
    /// `--realm`: the tenant's realm.
    Realm,
    /// `--registration`: whether users may create accounts.
    Registration,
    /// `--identity-providers`: the external identity providers of the realm, as JSON.
    IdentityProviders,
    /// `--smtp-url`: the cell's mail server.
    SmtpUrl,
    /// `--smtp-from`: the address that mail comes from.
    SmtpFrom,
    /// `--sms-url`: the tenant's hook of text messages.
    SmsUrl,
    /// `--sms-interval-seconds`: a user is sent one text message in so long.
    SmsIntervalSeconds,
    /// `--public-origins`: the tenant's addresses, separated by commas.
    PublicOrigins,
    /// `--user-sends` and its like: how much users may do.
    Rate(Limit),
    /// `--tenant-connections`: how many connections all users may have together.
    TenantConnections,
    /// `--connections-per-user`: how many connections one user may have.
    ConnectionsPerUser,
    /// `--max-memberships`: how many members all chats may have together.
    MaxMemberships,
    /// `--max-chats-per-user`: how many chats one user may create.
    MaxChatsPerUser,
    /// `--allowed-origins`: what may open a WebSocket beside pages of the tenant's hosts, separated by commas.
    AllowedOrigins,
    /// `--sample-seconds`: how often samples of presence are published, where the tenant has the topic for them.
    SampleSeconds,
    /// `--send-topic-generation`: the id that Kafka gave the topic `message.send`. Unknown until the topic was seen.
    SendTopicGeneration,
    /// `--index-folder`: where the search service keeps its index, a folder of the pod.
    IndexFolder,
    /// `--schema-ids`: the ids of the schemas of records in the cell's schema registry, by topic, separated by commas.
    SchemaIds,
    /// `--tenant-services`: which services the tenant has, separated by commas.
    TenantServices,
    /// `--media-quota-bytes`: how many bytes the files of all users may have together.
    MediaQuotaBytes,
    /// `--max-file-bytes`: how many bytes one file may have.
    MaxFileBytes,
    /// `--upload-origin`: where browsers send files.
    UploadOrigin,
    /// `--brand-name`: what users read as the name of the messenger.
    BrandName,
    /// `--brand-color`: the tenant's colour.
    BrandColor,
    /// `--brand-logo`: the tenant's picture, as a `data:` URL.
    BrandLogo,
    /// `--clamd`: where the cell's scanner of files is.
    Clamd,
    /// `--film-folder`: where the media service writes a film that ffmpeg reads, a folder of the pod.
    FilmFolder,
    /// `--moderators`: the usernames of those who moderate the messenger, separated by commas.
    Moderators,
    /// `--classifier-url`: the tenant's classifier of texts.
    ClassifierUrl,
}

impl Setting {
    /// Returns the folder of the pod that the setting names.
    pub const fn folder(self) -> Option<Folder> {
        match self {
            Self::IndexFolder => Some(INDEX_FOLDER),
            Self::FilmFolder => Some(FILM_FOLDER),
            _ => None,
        }
    }

    /// Returns the backend that does what the setting is for: a tenant that has it has no use of the setting.
    pub const fn is_spared_by(self) -> Option<Backend> {
        match self {
            Self::IndexFolder => Some(Backend::OpenSearch),
            _ => None,
        }
    }

    /// Returns the flag that carries the setting.
    pub const fn flag(self) -> &'static str {
        match self {
            Self::KeycloakUrl => "--keycloak-url",
            Self::Realm => "--realm",
            Self::Registration => "--registration",
            Self::IdentityProviders => "--identity-providers",
            Self::SmtpUrl => "--smtp-url",
            Self::SmtpFrom => "--smtp-from",
            Self::SmsUrl => "--sms-url",
            Self::SmsIntervalSeconds => "--sms-interval-seconds",
            Self::PublicOrigins => "--public-origins",
            Self::Rate(limit) => limit.flag(),
            Self::TenantConnections => "--tenant-connections",
            Self::ConnectionsPerUser => "--connections-per-user",
            Self::MaxMemberships => "--max-memberships",
            Self::MaxChatsPerUser => "--max-chats-per-user",
            Self::AllowedOrigins => "--allowed-origins",
            Self::SampleSeconds => "--sample-seconds",
            Self::SendTopicGeneration => "--send-topic-generation",
            Self::IndexFolder => "--index-folder",
            Self::SchemaIds => "--schema-ids",
            Self::TenantServices => "--tenant-services",
            Self::MediaQuotaBytes => "--media-quota-bytes",
            Self::MaxFileBytes => "--max-file-bytes",
            Self::UploadOrigin => "--upload-origin",
            Self::BrandName => "--brand-name",
            Self::BrandColor => "--brand-color",
            Self::BrandLogo => "--brand-logo",
            Self::Clamd => "--clamd",
            Self::FilmFolder => "--film-folder",
            Self::Moderators => "--moderators",
            Self::ClassifierUrl => "--classifier-url",
        }
    }
}

/// A folder that a pod has for itself. It is empty when the pod begins, outlives its containers, and goes with the pod.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Folder {
    /// Name of the volume.
    pub name: &'static str,
    /// Where the process finds it.
    pub path: &'static str,
    /// Most that it may hold, in GiB. A pod with more is replaced.
    pub size_limit_gib: u64,
}

impl Folder {
    /// Returns the most that it may hold, in bytes.
    pub const fn size_limit_bytes(self) -> u64 {
        self.size_limit_gib << 30
    }
}

/// The folder of the search service. An index has about a quarter of a kilobyte for each message, and there are two while it is built again.
pub const INDEX_FOLDER: Folder =
    Folder { name: "index", path: "/var/lib/posthouse/index", size_limit_gib: 4 };

/// The folder of the media service. One film of up to 512 MiB is there at a time, where the image has ffmpeg.
const FILM_FOLDER: Folder = Folder { name: "films", path: "/var/lib/posthouse/films", size_limit_gib: 1 };

/// Where most services describe their API.
const OPENAPI: &str = "openapi.json";

table! {
    /// A service of a tenant.
    pub enum Service: ServiceEntry;

    /// WebSockets.
    Gateway = ServiceEntry {
        name: "gateway",
        about: "Holds users' connections and pushes messages to them.",
        is_optional: false,
        is_on_request: false,
        backends: &[Backend::Kafka, Backend::Keycloak, Backend::Redis],
        chosen_backends: &[],
        optional_backends: &[],
        secrets: &[Secret::Kafka, Secret::Redis, Secret::Internal, Secret::Metrics],
        peers: &[Service::Chat, Service::Message, Service::User],
        optional_peers: &[Service::Presence, Service::Media],
        settings: &[
            Setting::Rate(Limit::UserSends),
            Setting::Rate(Limit::UserBytes),
            Setting::Rate(Limit::ChatSends),
            Setting::Rate(Limit::ChatBytes),
            Setting::Rate(Limit::TenantSends),
            Setting::Rate(Limit::TenantBytes),
            Setting::Rate(Limit::UserQueries),
            Setting::TenantConnections,
            Setting::ConnectionsPerUser,
            Setting::AllowedOrigins,
            Setting::SchemaIds,
            // What no route takes comes to it, and `/docs` lists the others.
            Setting::TenantServices,
        ],
        path_prefixes: &[],
        paths: &["/ws", "/docs", "/docs/"],
        // A command may be about the event stream of its client.
        sticky_paths: &["/events", "/commands"],
        description: "asyncapi.json",
        postgres_sessions: 0,
        migrates: false,
        cpu_request: "25m",
        memory_request: "32Mi",
        memory_limit: "512Mi",
    };
    /// Accounts and sessions.
    Auth = ServiceEntry {
        name: "auth",
        about: "Registers users, signs them in and out, and refreshes their tokens.",
        is_optional: false,
        is_on_request: false,
        backends: &[Backend::Keycloak, Backend::Kafka, Backend::Redis],
        chosen_backends: &[],
        optional_backends: &[],
        secrets: &[
            Secret::Oidc,
            Secret::Kafka,
            Secret::Redis,
            Secret::Smtp,
            Secret::Internal,
            Secret::Metrics,
        ],
        peers: &[Service::User],
        optional_peers: &[],
        settings: &[
            Setting::KeycloakUrl,
            Setting::Realm,
            Setting::Registration,
            Setting::IdentityProviders,
            Setting::PublicOrigins,
            Setting::SmtpUrl,
            Setting::SmtpFrom,
            Setting::SchemaIds,
        ],
        path_prefixes: &["/api/auth"],
        paths: &[],
        sticky_paths: &[],
        description: OPENAPI,
        postgres_sessions: 0,
        migrates: false,
        cpu_request: "20m",
        memory_request: "32Mi",
        memory_limit: "256Mi",
    };
    /// Profiles.
    User = ServiceEntry {
        name: "user",
        about: "Keeps the profiles of users and finds them.",
        is_optional: false,
        is_on_request: false,
        backends: &[Backend::Postgres, Backend::Redis, Backend::Keycloak],
        chosen_backends: &[],
        optional_backends: &[],
        secrets: &[Secret::Postgres, Secret::Redis, Secret::Internal, Secret::Metrics],
        peers: &[],
        optional_peers: &[],
        settings: &[],
        path_prefixes: &["/api/users"],
        paths: &[],
        sticky_paths: &[],
        description: OPENAPI,
        postgres_sessions: 0,
        migrates: true,
        cpu_request: "20m",
        memory_request: "32Mi",
        memory_limit: "256Mi",
    };
    /// Chats and memberships.
    Chat = ServiceEntry {
        name: "chat",
        about: "Keeps direct chats and groups, their members and roles.",
        is_optional: false,
        is_on_request: false,
        backends: &[Backend::Postgres, Backend::Kafka, Backend::Keycloak],
        chosen_backends: &[],
        optional_backends: &[],
        secrets: &[Secret::Postgres, Secret::Kafka, Secret::Internal, Secret::Metrics],
        peers: &[Service::User],
        optional_peers: &[],
        settings: &[
            Setting::MaxMemberships,
            Setting::MaxChatsPerUser,
            Setting::Rate(Limit::UserSends),
            Setting::Rate(Limit::UserBytes),
            Setting::Rate(Limit::ChatSends),
            Setting::Rate(Limit::ChatBytes),
            Setting::Rate(Limit::TenantSends),
            Setting::Rate(Limit::TenantBytes),
            Setting::SchemaIds,
        ],
        path_prefixes: &["/api/chats", "/api/invites", "/api/blocks"],
        paths: &[],
        sticky_paths: &[],
        description: OPENAPI,
        // The leader of the outbox, the channel that wakes it, and two for the checks of senders.
        postgres_sessions: 4,
        migrates: true,
        cpu_request: "20m",
        memory_request: "32Mi",
        memory_limit: "256Mi",
    };
    /// Messages.
    Message = ServiceEntry {
        name: "message",
        about: "Orders, stores and delivers messages. Replicas beyond kafka.partitions are idle.",
        is_optional: false,
        is_on_request: false,
        backends: &[Backend::Cql, Backend::Kafka, Backend::Keycloak],
        chosen_backends: &[],
        optional_backends: &[],
        secrets: &[Secret::Cql, Secret::Kafka, Secret::Internal, Secret::Metrics],
        peers: &[Service::Chat, Service::User],
        optional_peers: &[],
        settings: &[Setting::SendTopicGeneration, Setting::SchemaIds],
        path_prefixes: &["/api/messages"],
        paths: &[],
        sticky_paths: &[],
        description: OPENAPI,
        postgres_sessions: 0,
        migrates: true,
        cpu_request: "25m",
        memory_request: "32Mi",
        memory_limit: "512Mi",
    };
    /// Presence.
    Presence = ServiceEntry {
        name: "presence",
        about: "Knows which users are online, away or typing, and when the others were last seen.",
        is_optional: true,
        is_on_request: false,
        backends: &[Backend::Redis, Backend::Kafka, Backend::Keycloak],
        chosen_backends: &[],
        optional_backends: &[],
        secrets: &[Secret::Redis, Secret::Kafka, Secret::Internal, Secret::Metrics],
        peers: &[Service::User, Service::Chat],
        optional_peers: &[],
        settings: &[Setting::SampleSeconds, Setting::SchemaIds],
        path_prefixes: &[],
        paths: &[],
        sticky_paths: &[],
        description: OPENAPI,
        postgres_sessions: 0,
        migrates: false,
        cpu_request: "10m",
        memory_request: "16Mi",
        memory_limit: "128Mi",
    };
    /// Files.
    Media = ServiceEntry {
        name: "media",
        about: "Takes files, checks them, and serves them to those who may read them.",
        is_optional: true,
        is_on_request: true,
        backends: &[Backend::S3, Backend::Postgres, Backend::Kafka, Backend::Keycloak],
        chosen_backends: &[],
        optional_backends: &[],
        secrets: &[Secret::S3, Secret::Postgres, Secret::Kafka, Secret::Internal, Secret::Metrics],
        peers: &[Service::Chat, Service::Message, Service::User],
        optional_peers: &[],
        settings: &[Setting::MediaQuotaBytes, Setting::MaxFileBytes, Setting::Clamd, Setting::FilmFolder],
        path_prefixes: &["/api/media", "/content"],
        paths: &[],
        sticky_paths: &[],
        description: OPENAPI,
        postgres_sessions: 0,
        migrates: true,
        cpu_request: "20m",
        memory_request: "48Mi",
        // A picture at its limit of 320 MiB, files that wait for it, those that are sent, and links that are followed.
        memory_limit: "1Gi",
    };
    /// Searches.
    Search = ServiceEntry {
        name: "search",
        about: "Finds messages by their words, in the chats of who searches. Each replica has an index of its own, unless engine is OpenSearch.",
        is_optional: true,
        is_on_request: true,
        backends: &[Backend::Kafka, Backend::Keycloak],
        chosen_backends: &[Backend::OpenSearch],
        optional_backends: &[],
        secrets: &[Secret::Kafka, Secret::OpenSearch, Secret::Internal, Secret::Metrics],
        peers: &[Service::Chat, Service::Message, Service::User],
        optional_peers: &[],
        settings: &[Setting::IndexFolder],
        path_prefixes: &["/api/search"],
        paths: &[],
        sticky_paths: &[],
        description: OPENAPI,
        postgres_sessions: 0,
        migrates: false,
        cpu_request: "20m",
        memory_request: "64Mi",
        memory_limit: "512Mi",
    };
    /// Notifications.
    Notification = ServiceEntry {
        name: "notification",
        about: "Tells users of messages that no device of theirs took: by Web Push, Firebase, webhooks, mails and text messages.",
        is_optional: true,
        is_on_request: true,
        backends: &[Backend::Postgres, Backend::Kafka, Backend::Redis, Backend::Keycloak],
        chosen_backends: &[],
        optional_backends: &[Backend::RabbitMq],
        secrets: &[
            Secret::Postgres,
            Secret::Kafka,
            Secret::Redis,
            Secret::RabbitMq,
            Secret::Smtp,
            Secret::Fcm,
            Secret::Sms,
            Secret::Vapid,
            Secret::Internal,
            Secret::Metrics,
        ],
        peers: &[Service::Auth, Service::Chat, Service::Message, Service::User],
        optional_peers: &[],
        settings: &[
            Setting::PublicOrigins,
            Setting::SmtpUrl,
            Setting::SmtpFrom,
            Setting::SmsUrl,
            Setting::SmsIntervalSeconds,
        ],
        path_prefixes: &["/api/notifications"],
        paths: &[],
        sticky_paths: &[],
        description: OPENAPI,
        postgres_sessions: 0,
        migrates: true,
        cpu_request: "20m",
        memory_request: "32Mi",
        memory_limit: "256Mi",
    };
    /// Rules, reports and sanctions.
    Moderation = ServiceEntry {
        name: "moderation",
        about: "Judges messages by the tenant's rules, keeps reports for its moderators, and carries out what they decide.",
        is_optional: true,
        is_on_request: true,
        backends: &[Backend::Postgres, Backend::Kafka, Backend::Keycloak],
        chosen_backends: &[],
        optional_backends: &[],
        secrets: &[Secret::Postgres, Secret::Kafka, Secret::Classifier, Secret::Internal, Secret::Metrics],
        peers: &[Service::Auth, Service::Chat, Service::Message, Service::User],
        optional_peers: &[],
        settings: &[Setting::Moderators, Setting::ClassifierUrl, Setting::SchemaIds],
        path_prefixes: &["/api/moderation"],
        paths: &[],
        sticky_paths: &[],
        description: OPENAPI,
        postgres_sessions: 0,
        migrates: true,
        cpu_request: "20m",
        memory_request: "32Mi",
        memory_limit: "256Mi",
    };
    /// The page.
    Web = ServiceEntry {
        name: "web",
        about: "Serves the messenger that users open in a browser.",
        is_optional: true,
        is_on_request: false,
        // For the keys of tokens, which every process checks.
        backends: &[Backend::Keycloak],
        chosen_backends: &[],
        optional_backends: &[],
        secrets: &[Secret::Internal, Secret::Metrics],
        peers: &[Service::User],
        optional_peers: &[],
        settings: &[
            Setting::UploadOrigin,
            Setting::TenantServices,
            Setting::BrandName,
            Setting::BrandColor,
            Setting::BrandLogo,
        ],
        path_prefixes: &["/app"],
        paths: &["/"],
        sticky_paths: &[],
        description: OPENAPI,
        postgres_sessions: 0,
        migrates: false,
        cpu_request: "5m",
        memory_request: "16Mi",
        memory_limit: "64Mi",
    };
}

impl Service {
    /// Returns the path prefixes that are routed to the service.
    pub fn prefixes(self) -> impl Iterator<Item = String> {
        let own = self.entry().path_prefixes.iter().map(|prefix| (*prefix).to_owned());
        own.chain([format!("/docs/{self}")])
    }

    /// Returns the path whose response proves that the service is routed.
    pub fn probe_path(self) -> String {
        format!("/docs/{self}/{}", self.description)
    }

    /// Returns the backends that it may need: those that it always needs, then those that a tenant may choose.
    pub fn all_backends(self) -> impl Iterator<Item = Backend> {
        let entry = self.entry();
        entry.backends.iter().chain(entry.chosen_backends).copied()
    }

    /// Returns the services it calls: those that it needs, then those that a tenant may not have.
    pub fn all_peers(self) -> impl Iterator<Item = Service> {
        let entry = self.entry();
        entry.peers.iter().chain(entry.optional_peers).copied()
    }

    /// Returns the flag by which other services read the URL of this service's gRPC API.
    pub fn peer_flag(self) -> String {
        format!("--{self}-grpc")
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn no_two_services_claim_one_path() {
        let mut seen = BTreeSet::new();
        for service in Service::ALL {
            let whole = service.paths.iter().chain(service.sticky_paths).map(|path| (*path).to_owned());
            for path in service.prefixes().chain(whole) {
                assert!(seen.insert(path.clone()), "{path} is claimed twice");
            }
        }
    }

    #[test]
    fn a_probe_asks_for_a_path_that_is_routed_to_its_service() {
        for service in Service::ALL {
            let probe = service.probe_path();
            assert!(service.prefixes().any(|prefix| probe.starts_with(&prefix)), "{service}");
        }
    }

    #[test]
    fn a_service_never_depends_on_an_optional_one() {
        for service in Service::ALL {
            for peer in service.peers {
                assert!(!peer.is_optional || service.is_optional, "{service} calls {peer}");
            }
        }
    }

    #[test]
    fn only_an_optional_service_is_there_on_request() {
        for service in Service::ALL {
            assert!(!service.is_on_request || service.is_optional, "{service} is the messenger itself");
        }
    }

    #[test]
    fn every_process_finds_the_profile_of_the_user_of_a_token() {
        for service in Service::ALL {
            let finds = *service == Service::User || service.peers.contains(&Service::User);
            assert!(finds, "{service} takes tokens, and does not call the user service");
        }
    }

    #[test]
    fn only_an_optional_service_is_an_optional_peer() {
        for service in Service::ALL {
            for peer in service.optional_peers {
                assert!(peer.is_optional, "{service} calls {peer}, which is always there");
                assert!(!service.peers.contains(peer), "{service} has {peer} twice");
            }
        }
    }

    #[test]
    fn a_service_receives_the_account_of_every_backend_it_writes_to() {
        // Tokens are checked with public keys; only auth has an account in the realm.
        for service in Service::ALL {
            let used = service.all_backends().chain(service.optional_backends.iter().copied());
            for backend in used.filter(|backend| *backend != Backend::Keycloak) {
                let has_account = backend.secret.is_some_and(|secret| service.secrets.contains(&secret));
                assert!(has_account, "{service} has no account on {backend}");
            }
        }
    }

    #[test]
    fn what_a_service_may_do_without_is_no_backend_that_it_always_needs() {
        for service in Service::ALL {
            for backend in service.chosen_backends {
                assert!(!service.backends.contains(backend), "{service} has {backend} twice");
            }
        }
    }

    #[test]
    fn no_two_folders_of_a_pod_are_one() {
        let mut seen = BTreeSet::new();
        let settings = Service::ALL.iter().flat_map(|service| service.settings.iter());
        for Folder { name, path, .. } in settings.filter_map(|setting| setting.folder()) {
            assert!(seen.insert(name) && seen.insert(path), "{name} at {path} is there twice");
        }
    }

    #[test]
    fn names_read_back() {
        for service in Service::ALL {
            assert_eq!(Service::parse(service.as_str()), Some(*service));
        }
        assert_eq!(Service::parse("stranger"), None);
    }
}
