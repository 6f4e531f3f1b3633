//! `MessengerTenant`: what one tenant wants.

use std::{borrow::Cow, collections::BTreeMap};

use catalog::{
    CHATS_PER_USER, CONNECTIONS, CONNECTIONS_PER_USER, FILE_BYTES, Limit, MAX_ACCESS_TOKEN_SECONDS,
    MEDIA_BYTES, MEMBERSHIPS, Rate, Topic,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use kube::{CustomResource, KubeSchema};
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize};

use crate::{
    ConditionType, Period, ServicesSpec, SizeSpec, Topology,
    names::{is_address, is_dns_name, is_reserved},
};

/// Partitions of a tenant that names none: enough for a handful of message pods.
pub const DEFAULT_PARTITIONS: i32 = 6;
/// How long the log keeps what was sent and delivered; the message store keeps messages without a limit.
pub const DEFAULT_RETENTION: Period = Period::hours(168);
/// Short, because services check tokens without a call to Keycloak: a revoked session lives on for at most this long.
pub const DEFAULT_ACCESS_TOKEN_LIFETIME: Period = Period::seconds(300);
/// Services remember for this long what has ended.
const MAX_ACCESS_TOKEN_LIFETIME: Period = Period::seconds(MAX_ACCESS_TOKEN_SECONDS);
/// A text message costs the tenant something.
const DEFAULT_SMS_INTERVAL: Period = Period::hours(1);
/// Longer than a figure of a Prometheus that has stopped to answer is taken for a new one.
const DEFAULT_IDLE_AFTER: Period = Period::seconds(1800);
/// Requests a second and client address, with bursts.
pub const DEFAULT_RATE_LIMIT: RateLimit = RateLimit { average: 100, burst: 200 };

/// What the tenant wants. Only `tenantId` and `cellRef` are required; every default is applied where it is used and
/// never written back.
#[derive(CustomResource, KubeSchema, Clone, Debug, PartialEq, Serialize, Deserialize)]
#[kube(
    group = "messenger.posthouse.dev",
    version = "v1alpha1",
    kind = "MessengerTenant",
    plural = "messengertenants",
    namespaced,
    shortname = "mt",
    category = "messenger",
    status = "TenantStatus",
    derive = "PartialEq",
    doc = "A MessengerTenant is one company's messenger: its own sign-in realm, event log, message store and address. \
           Apply it, wait for Ready=True, and open status.endpoints.web. Its Deployments, Services, routes and Secrets live beside it in \
           its namespace. kubectl delete keeps the data unless spec.deletionPolicy is Delete.",
    // A resource that was made before these rules can still be edited and deleted.
    validation = Rule::new(format!("!({}) || oldSelf.hasValue()", is_reserved("self.spec.tenantId"))).message("tenantId is reserved: a backend or Kubernetes has something of its own that is called so").field_path(".spec.tenantId").optional_old_self(true),
    validation = Rule::new("self.metadata.name.matches('^[a-z]') || oldSelf.hasValue()").message("metadata.name must start with a letter: Services are named after it").optional_old_self(true),
    validation = Rule::new("self.metadata.name.size() <= 40 && !self.metadata.name.contains('.')").message("metadata.name must be 40 characters or fewer without a dot: Services and Deployments are named after it"),
    printcolumn(name = "Ready", type_ = "string", json_path = r#".status.conditions[?(@.type=="Ready")].status"#),
    printcolumn(name = "Reason", type_ = "string", json_path = r#".status.conditions[?(@.type=="Ready")].reason"#),
    printcolumn(name = "Cell", type_ = "string", json_path = ".spec.cellRef.name"),
    printcolumn(name = "Host", type_ = "string", json_path = ".status.hosts[0]", description = "The first address of the tenant"),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp"),
    printcolumn(name = "Tenant", type_ = "string", json_path = ".spec.tenantId", priority = 1),
    printcolumn(name = "Workloads", type_ = "string", json_path = r#".status.conditions[?(@.type=="WorkloadsReady")].status"#, priority = 1),
    printcolumn(name = "Routes", type_ = "string", json_path = r#".status.conditions[?(@.type=="RoutesReady")].status"#, priority = 1),
    printcolumn(name = "Message", type_ = "string", json_path = r#".status.conditions[?(@.type=="Ready")].message"#, priority = 1),
    selectable = ".spec.tenantId",
    selectable = ".spec.cellRef.name"
)]
#[x_kube(validation = Rule::new("(has(self.kafka) && has(self.kafka.partitions) ? self.kafka.partitions : 6) == (has(oldSelf.kafka) && has(oldSelf.kafka.partitions) ? oldSelf.kafka.partitions : 6)").message("kafka.partitions cannot change: a chat's messages would move to another partition and lose their order").field_path(".kafka"))]
#[serde(rename_all = "camelCase")]
pub struct MessengerTenantSpec {
    /// The tenant's name in every backend: topics `acme.message.send`, Kafka user `acme`, keyspace, database and their
    /// roles `mt_acme`, realm `acme`, Redis user `acme`, bucket `mt-acme`, indices `mt-acme-*`. 3 to 20 lower-case letters and digits, a letter first.
    /// Names that a backend reserves, such as `master`, are refused. Immutable. Unique in the installation: the resource that has a
    /// tenantId keeps it, of two new ones the oldest gets it, and the other stays `Ready=False` with reason `ResourceConflict`
    /// and owns nothing. What a deleted resource left in the backends keeps the tenantId for it.
    #[x_kube(
        validation = Rule::new("self.matches('^[a-z][a-z0-9]{2,19}$')").message("tenantId must be 3 to 20 lower-case letters and digits and start with a letter"),
        validation = Rule::new("self == oldSelf").message("tenantId is immutable: make a new tenant instead")
    )]
    #[schemars(length(max = 64))]
    pub tenant_id: String,

    /// The cell the tenant lives on. Immutable: data does not move between cells.
    #[x_kube(validation = Rule::new("self == oldSelf").message("cellRef is immutable: data does not move between cells"))]
    pub cell_ref: CellRef,

    /// Host names of the tenant, the main one first. Default: `<tenantId>.<domain of the cell>`. May
    /// change at any time. A host belongs to the tenant that got it first, until that tenant drops it: the others report it in
    /// `RoutesReady` with reason `HostConflict`. Hosts outside of `<tenantId>.<domain of the cell>` must be allowed by the cell,
    /// or are reported with reason `HostNotAllowed`.
    #[x_kube(
        validation = Rule::new(format!("self.all(host, {})", is_dns_name("host"))).message("hosts must be DNS names in lower case, without a wildcard, scheme or port, in labels of at most 63 characters"),
        validation = Rule::new(format!("!self.exists(host, {})", is_address("host"))).message("hosts must be names: what ends in a number is an IP address"),
        validation = Rule::new("self.all(host, self.exists_one(other, other == host))").message("hosts must not repeat")
    )]
    #[schemars(length(min = 1, max = 8), inner(length(max = 253)))]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hosts: Option<Vec<String>>,

    /// What `kubectl delete` does to the data; see [`DeletionPolicy`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deletion_policy: Option<DeletionPolicy>,

    /// While true every deletion of this resource is refused, and that of its namespace, with the command that switches it off. It guards against mistakes: who
    /// may edit the resource may set it to false. The runbook says what it does not hold. Default false. May change at any time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deletion_protection: Option<bool>,

    /// While true the operator observes, reports `Ready=False` with reason `Paused`, and writes nothing: not to the
    /// backends, not to the namespace. Deletion still works. Default false.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub paused: Option<bool>,

    /// While true no pod of the tenant runs: users are refused, and nothing is stored, sent or judged. Topics, keyspace, database, realm, bucket, Secrets and
    /// routes are kept and repaired as ever, and `Ready` is `False` with reason `Suspended`. Set to false, the messenger goes on where it was. `paused` is
    /// another thing: there the pods go on, and the operator changes nothing. Default false. May change at any time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub suspended: Option<bool>,

    /// Present, even when empty, it lets a request to one of the tenant's hosts wake it while `suspended` is true: its pods start, and clients are told to come again
    /// until they run, which takes seconds. `suspended` stays true, and `status.wake` says that the tenant is awake. Absent, only who sets `suspended` to false
    /// wakes it. May change at any time: where it is removed, the pods of a tenant that is awake end. While `suspended` is not true it has no effect.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub wake_on_connect: Option<WakeOnConnectSpec>,

    /// The tenant's event log.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kafka: Option<KafkaSpec>,

    /// The tenant's sign-in realm.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub identity: Option<IdentitySpec>,

    /// What users know the messenger by, in the browser and on the page of the realm. May change at any time, and the pods of the web
    /// service are replaced then.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub branding: Option<BrandingSpec>,

    /// How the tenant is reached.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub routing: Option<RoutingSpec>,

    /// How much the tenant's users may do.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limits: Option<LimitsSpec>,

    /// How much the files of the tenant's users may take, in whole numbers of bytes: units such as `10Gi` are refused. One user may have
    /// a quarter of `quotaBytes`, or `maxFileBytes` where that is more. An upload counts from its beginning. Without the media service
    /// it has no effect.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub media: Option<MediaSpec>,

    /// Who moderates the messenger. Without the moderation service it has no effect.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub moderation: Option<ModerationSpec>,

    /// By what users are notified beside Web Push, webhooks and mails. Without the notification service it has no effect.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub notifications: Option<NotificationsSpec>,

    /// What the tenant's services report about their work.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observability: Option<ObservabilitySpec>,

    /// How the services are spread over pods; see [`Topology`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub topology: Option<Topology>,

    /// The services, each by its name. One that is absent gets the defaults.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub services: Option<ServicesSpec>,

    /// Size of the one workload that runs every service while `topology` is `Compact`, and what else is set for its pods. Otherwise it has no effect.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub compact: Option<SizeSpec>,
}

/// A cell, by name.
#[derive(KubeSchema, Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct CellRef {
    /// Name of a MessengerCell. If there is none yet, the tenant waits with `Placed=False`, reason `CellNotFound`.
    #[x_kube(validation = Rule::new(r"self.matches('^[a-z0-9]([a-z0-9.-]*[a-z0-9])?$')").message("cellRef.name must be the name of a MessengerCell"))]
    #[schemars(length(max = 253))]
    pub name: String,
}

/// How a suspended tenant wakes, and when it sleeps again.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct WakeOnConnectSpec {
    /// The pods end again once no client was connected for so long, as the Prometheus of the cell says. Where the cell names none, or it does not answer, they go
    /// on. Default `30m`, at least `20m`, at most `168h`.
    #[x_kube(validation = Rule::new("duration(self) >= duration('20m') && duration(self) <= duration('168h')").message("wakeOnConnect.idleAfter must lie between 20m and 168h"))]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub idle_after: Option<Period>,
}

impl WakeOnConnectSpec {
    /// Returns for how long no client is connected before the tenant sleeps again.
    pub fn idle_after(&self) -> Period {
        self.idle_after.unwrap_or(DEFAULT_IDLE_AFTER)
    }
}

/// What `kubectl delete` does to the data. `Retain` (default) stops the services and keeps topics, keyspace, database,
/// realm, bucket and search index; they are re-adopted when the tenant is applied again in the same namespace, and nowhere else. `Delete` removes
/// all of it within a minute; what cannot be removed by then is named in an Event and in the status of the cell, and tried again.
/// May change until the resource is deleted.
#[derive(JsonSchema, Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum DeletionPolicy {
    /// Keep topics, keyspace, database, realm, bucket and search index.
    #[default]
    Retain,
    /// Remove everything in every backend.
    Delete,
}

/// The tenant's event log.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct KafkaSpec {
    /// Partitions of each of the tenant's topics; also how many message pods can work at the same time. Default 6.
    /// Immutable, because the order of a chat depends on its partition.
    #[x_kube(validation = Rule::new("self >= 1 && self <= 96").message("kafka.partitions must lie between 1 and 96"))]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub partitions: Option<i32>,

    /// How long a topic that is not compacted keeps a record. It bounds how long the message service may be down without
    /// losing anything; messages themselves stay in the store. Default `168h`, at least `1h`, at most
    /// `8760h`. May change at any time.
    #[x_kube(validation = Rule::new("duration(self) >= duration('1h') && duration(self) <= duration('8760h')").message("kafka.retention must lie between 1h and 8760h"))]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retention: Option<Period>,

    /// Bounds on what the tenant's services take from the brokers. Absent fields are unbounded. May change at any time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub quotas: Option<KafkaQuotas>,

    /// Topics beside those that every tenant has, for programs of your own that read them with the account in `<name>-kafka`. Default:
    /// none. May change at any time: a topic that is not named any more gets no records, and is kept until the tenant is deleted.
    #[schemars(length(max = 16))]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub optional_topics: Option<Vec<OptionalTopic>>,
}

/// A topic that a tenant has only where it requests it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct OptionalTopic(String);

impl OptionalTopic {
    /// Returns the entry of the catalog; nothing for a topic that only a newer release knows.
    pub fn topic(&self) -> Option<Topic> {
        Topic::parse(&self.0).filter(|topic| topic.is_optional)
    }
}

impl JsonSchema for OptionalTopic {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        "OptionalTopic".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        let names: Vec<_> =
            Topic::ALL.iter().filter(|topic| topic.is_optional).map(|topic| topic.name).collect();
        json_schema!({"type": "string", "enum": names})
    }
}

/// Kafka client quotas of the tenant's user. They hold per broker; a client above them is slowed down, never cut off.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct KafkaQuotas {
    /// Bytes a second the tenant may write to one broker.
    #[x_kube(validation = Rule::new("self >= 1024").message("kafka.quotas.producerBytesPerSecond must be at least 1024"))]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub producer_bytes_per_second: Option<i64>,

    /// Bytes a second the tenant may read from one broker.
    #[x_kube(validation = Rule::new("self >= 1024").message("kafka.quotas.consumerBytesPerSecond must be at least 1024"))]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub consumer_bytes_per_second: Option<i64>,

    /// Share of one broker's request threads the tenant may use; 100 is one whole thread.
    #[x_kube(validation = Rule::new("self >= 1 && self <= 10000").message("kafka.quotas.requestPercentage must lie between 1 and 10000"))]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub request_percentage: Option<i32>,
}

/// The tenant's sign-in realm.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct IdentitySpec {
    /// Which users may create an account; see [`Registration`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub registration: Option<Registration>,

    /// How long an access token is good for.
    #[schemars(description = access_token_lifetime_doc())]
    #[x_kube(validation = Rule::new(format!("duration(self) >= duration('1m') && duration(self) <= duration('{MAX_ACCESS_TOKEN_LIFETIME}')")).message(&*format!("identity.accessTokenLifetime must lie between 1m and {MAX_ACCESS_TOKEN_LIFETIME}")))]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub access_token_lifetime: Option<Period>,

    /// External OpenID Connect providers that users may sign in with; the first sign-in makes an account, whatever `registration`
    /// is. Redirect URI to register there: `<publicUrl of the cell's Keycloak>/realms/<tenantId>/broker/<alias>/endpoint`. The
    /// cell must allow their hosts in `keycloak.providerHosts`. Default: none. May change at any time: users of a provider that is
    /// removed keep their accounts and sessions, and can sign in with it no more. Declared again within 30 days, it has its users
    /// again.
    #[x_kube(validation = Rule::new("self.all(provider, self.exists_one(other, other.alias == provider.alias))").message("identity.providers must not repeat an alias"))]
    #[x_kube(validation = Rule::new("self.all(provider, !oldSelf.exists(old, old.alias == provider.alias && old.issuer != provider.issuer))").message("the issuer of a provider cannot change: its users would be those of the other one. Declare another alias"))]
    #[schemars(length(max = 8))]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub providers: Option<Vec<IdentityProvider>>,
}

/// An external OpenID Connect provider, found by its discovery document.
#[derive(KubeSchema, Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct IdentityProvider {
    /// Its name in the realm and in `/api/auth/login/<alias>`. Another alias is another provider: the accounts that the old one
    /// opened do not follow.
    #[x_kube(validation = Rule::new("self.matches('^[a-z]([a-z0-9-]*[a-z0-9])?$')").message("alias must be lower-case letters, digits and dashes, a letter first and no dash last"))]
    #[schemars(length(min = 1, max = 32))]
    pub alias: String,

    /// What users read on the button. Default: the alias.
    #[x_kube(validation = Rule::new(r"self.matches('^[^\x00-\x1f\x7f]+$')").message("displayName must be one line"))]
    #[schemars(length(min = 1, max = 64))]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub display_name: Option<String>,

    /// Its `iss`. Keycloak reads `<issuer>/.well-known/openid-configuration`. It starts with `https://` unless the cell serves
    /// plain HTTP.
    #[x_kube(validation = Rule::new(r"self.matches('^https?://[a-z0-9.-]+(:[0-9]{1,5})?(/[A-Za-z0-9._~/-]*)?$') && !self.endsWith('/')").message("issuer must be an http(s) URL in lower case without a trailing slash, query or user"))]
    #[schemars(length(max = 512))]
    pub issuer: String,

    /// The id of the client that was registered there.
    #[x_kube(validation = Rule::new("self.matches('^[!-~]+$')").message("clientId must be visible ASCII characters"))]
    #[schemars(length(min = 1, max = 255))]
    pub client_id: String,

    /// Where the secret of that client is.
    pub client_secret_ref: ClientSecretRef,

    /// Scopes that are requested beside `openid`. Default: `profile` and `email`.
    #[x_kube(validation = Rule::new(r"self.all(scope, scope.matches('^[!#-\\[\\]-~]+$'))").message("scopes must be words of visible ASCII characters"))]
    #[schemars(length(max = 16), inner(length(min = 1, max = 128)))]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scopes: Option<Vec<String>>,
}

/// A key of a Secret beside the tenant. The Secret consents to where its content goes: its annotation
/// `messenger.posthouse.dev/issuer` has the provider's `issuer`. Without it, an author of tenants who may not read Secrets could have
/// any of them sent to a server of their own.
#[derive(KubeSchema, Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ClientSecretRef {
    /// Name of the Secret.
    #[x_kube(validation = Rule::new(r"self.matches('^[a-z0-9]([a-z0-9.-]*[a-z0-9])?$')").message("clientSecretRef.name must be the name of a Secret"))]
    #[schemars(length(max = 253))]
    pub name: String,

    /// Key in it. Default `clientSecret`.
    #[x_kube(validation = Rule::new(r"self.matches('^[A-Za-z0-9._-]+$')").message("clientSecretRef.key must be a key of a Secret"))]
    #[schemars(length(min = 1, max = 253))]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key: Option<String>,
}

impl ClientSecretRef {
    /// Returns the key in the Secret.
    pub fn key(&self) -> &str {
        self.key.as_deref().unwrap_or("clientSecret")
    }
}

/// Which users may create an account. `Open` (default): every user who reaches the tenant. `InviteOnly`: accounts are created by
/// an administrator of the realm. May change at any time.
#[derive(JsonSchema, Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Registration {
    /// Every user who reaches the tenant.
    #[default]
    Open,
    /// An administrator of the realm.
    InviteOnly,
}

impl Registration {
    /// Returns the value of the auth service's `--registration`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Open => "open",
            Self::InviteOnly => "invite-only",
        }
    }
}

/// What users know the messenger by.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct BrandingSpec {
    /// The name of the messenger, as users read it: one line of at most 64 characters. Default: the name of the resource.
    #[x_kube(
        validation = Rule::new(r"self.matches('^[^\x00-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069]+$')").message("branding.displayName must be one line, without characters that turn the direction of text"),
        validation = Rule::new("!self.startsWith(' ') && !self.endsWith(' ')").message("branding.displayName must not begin or end with a space")
    )]
    #[schemars(length(min = 1, max = 64))]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub display_name: Option<String>,

    /// The colour of buttons and links, as `#rrggbb`. It is made darker or lighter where text would not be readable in it or on it, so any
    /// colour will do. The page of the realm has it where the cell has a theme that knows it (`keycloak.loginTheme`). Default: the
    /// client's own blue.
    #[x_kube(validation = Rule::new("self.matches('^#[0-9A-Fa-f]{6}$')").message("branding.color must be #rrggbb, six hexadecimal digits after a #"))]
    #[schemars(length(max = 7))]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub color: Option<String>,

    /// A picture of at most 12 KiB that is shown beside the name where users sign in: PNG, JPEG or WebP as a `data:` URL in Base64. It
    /// is no address, because browsers of users would show themselves to that server before they sign in. Default: none.
    #[x_kube(validation = Rule::new("self.matches('^data:image/(png;base64,iVBORw0KGgo|jpeg;base64,/9j/|webp;base64,UklGR)[A-Za-z0-9+/]+={0,2}$')").message("branding.logo must be a PNG, JPEG or WebP picture as data:image/<type>;base64,<data>"))]
    #[schemars(length(max = 16384))]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub logo: Option<String>,
}

/// How the tenant is reached.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RoutingSpec {
    /// Requests a client address may make, enforced by Traefik before any service sees them. Default 100 a second with
    /// bursts of 200. May change at any time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rate_limit: Option<RateLimit>,

    /// Origins that may open a WebSocket beside pages of the tenant's hosts, as a browser or the web view of a packaged app sends
    /// them: `capacitor://localhost`, `http://localhost:5173`. A client that sends no `Origin` needs none. Default: none. May
    /// change at any time.
    #[x_kube(validation = Rule::new(r"self.all(origin, origin.matches('^[a-z][a-z0-9+.-]*://[a-z0-9._-]+(:[0-9]{1,5})?$'))").message("routing.allowedOrigins must be origins in lower case: a scheme, a host, perhaps a port, and no path"))]
    #[schemars(length(max = 16), inner(length(max = 253)))]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub allowed_origins: Option<Vec<String>>,
}

/// How much the tenant's users may do. What goes beyond is refused and nothing is lost: messages with `rate_limited` and the time to
/// wait, chats and members with `limit_reached`.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct LimitsSpec {
    /// Messages, edits and reactions of one user, over all connections. Default 25 a second with bursts of 100. May change at any
    /// time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user_sends: Option<SendLimit>,

    /// Bytes that one user sends so, 256 for each beside its text. Default 64 KiB a second with bursts of 1 MiB. May change at any
    /// time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user_bytes: Option<ByteLimit>,

    /// Messages, edits and reactions in one chat, of all members together. Default 100 a second with bursts of 400. May change at
    /// any time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub chat_sends: Option<SendLimit>,

    /// Bytes that are sent to one chat. Default 256 KiB a second with bursts of 4 MiB. May change at any time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub chat_bytes: Option<ByteLimit>,

    /// Messages, edits and reactions of all users together: what the tenant may take of the backends that it shares. Default 1000 a
    /// second with bursts of 5000. May change at any time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tenant_sends: Option<SendLimit>,

    /// Bytes of all users together. Default 4 MiB a second with bursts of 64 MiB. May change at any time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tenant_bytes: Option<ByteLimit>,

    /// Pages of history and of sync, and marks, that one user asks of a gateway for. Default 20 a second with bursts of 500. May
    /// change at any time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user_queries: Option<SendLimit>,

    /// Connections of all users together, over all gateways; one more is refused with 503. What other gateways have is known to
    /// within half a minute. Default 100000. May change at any time; connections that are open stay.
    #[x_kube(validation = Rule::new("self >= 10 && self <= 10000000").message("limits.connections must lie between 10 and 10000000"))]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub connections: Option<i32>,

    /// Connections of one user, over all gateways: windows and devices. One more closes the oldest, on another gateway within half a
    /// minute. Default 32. May change at any time.
    #[x_kube(validation = Rule::new("self >= 1 && self <= 1000").message("limits.connectionsPerUser must lie between 1 and 1000"))]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub connections_per_user: Option<i32>,

    /// Members of all chats together, a user counted once for each of their chats. One user has added at most an eighth of what is
    /// left. Default 1000000. May change at any time; members who are there stay.
    #[x_kube(validation = Rule::new("self >= 10000 && self <= 10000000").message("limits.memberships must lie between 10000 and 10000000"))]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub memberships: Option<i32>,

    /// Chats with members that one user has created, and chats that one user creates in 24 hours. Default 1000. May change at any
    /// time.
    #[x_kube(validation = Rule::new("self >= 1 && self <= 100000").message("limits.chatsPerUser must lie between 1 and 100000"))]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub chats_per_user: Option<i32>,
}

impl LimitsSpec {
    /// Returns a rate: what is said of it, or its default. So do the others.
    pub fn rate(&self, limit: Limit) -> Rate {
        let declared = match limit {
            Limit::UserSends => self.user_sends.map(SendLimit::rate),
            Limit::UserBytes => self.user_bytes.map(ByteLimit::rate),
            Limit::ChatSends => self.chat_sends.map(SendLimit::rate),
            Limit::ChatBytes => self.chat_bytes.map(ByteLimit::rate),
            Limit::TenantSends => self.tenant_sends.map(SendLimit::rate),
            Limit::TenantBytes => self.tenant_bytes.map(ByteLimit::rate),
            Limit::UserQueries => self.user_queries.map(SendLimit::rate),
        };
        declared.unwrap_or(limit.default_rate())
    }

    /// Returns how many connections all users may have together.
    pub fn connections(&self) -> u32 {
        self.connections.map_or(CONNECTIONS, i32::unsigned_abs)
    }

    /// Returns how many connections one user may have.
    pub fn connections_per_user(&self) -> u32 {
        self.connections_per_user.map_or(CONNECTIONS_PER_USER, i32::unsigned_abs)
    }

    /// Returns how many members all chats may have together.
    pub fn memberships(&self) -> u32 {
        self.memberships.map_or(MEMBERSHIPS, i32::unsigned_abs)
    }

    /// Returns how many chats one user may create.
    pub fn chats_per_user(&self) -> u32 {
        self.chats_per_user.map_or(CHATS_PER_USER, i32::unsigned_abs)
    }
}

/// How much the files of the tenant's users may take. The media service counts it, because the store does not; what goes beyond is
/// refused before it is sent.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[x_kube(validation = Rule::new(format!("(has(self.maxFileBytes) ? self.maxFileBytes : {FILE_BYTES}) <= (has(self.quotaBytes) ? self.quotaBytes : {MEDIA_BYTES})")).message(&*format!("media.maxFileBytes must not be above media.quotaBytes; they are {FILE_BYTES} (100 MiB) and {MEDIA_BYTES} (10 GiB) where they are not set")))]
#[serde(rename_all = "camelCase")]
pub struct MediaSpec {
    /// Bytes of all files together, between 1048576 (1 MiB) and 1125899906842624 (1 PiB), and at most `limits.mediaBytes` of the cell
    /// where the cell has that. Default 10737418240 (10 GiB). May change at any time; files that are there stay. Below 100 MiB, set
    /// `maxFileBytes` too.
    #[x_kube(validation = Rule::new("self >= 1048576 && self <= 1125899906842624").message("media.quotaBytes must lie between 1048576 (1 MiB) and 1125899906842624 (1 PiB)"))]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub quota_bytes: Option<i64>,

    /// Bytes of one file, between 1024 (1 KiB) and 1099511627776 (1 TiB), and at most `quotaBytes`. More than 5 GiB are as good as 5 GiB,
    /// and a picture has 24 MiB at most. Default 104857600 (100 MiB). May change at any time; files that are there stay.
    #[x_kube(validation = Rule::new("self >= 1024 && self <= 1099511627776").message("media.maxFileBytes must lie between 1024 (1 KiB) and 1099511627776 (1 TiB)"))]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_file_bytes: Option<i64>,
}

impl MediaSpec {
    /// Returns how many bytes all files may have together.
    pub fn quota_bytes(&self) -> u64 {
        self.quota_bytes.map_or(MEDIA_BYTES, i64::unsigned_abs)
    }

    /// Returns how many bytes one file may have.
    pub fn max_file_bytes(&self) -> u64 {
        self.max_file_bytes.map_or(FILE_BYTES, i64::unsigned_abs)
    }
}

/// Who moderates the messenger.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ModerationSpec {
    /// At most 100 moderators: they write rule sets, see what was reported, and decide. Each is a username, or `id:` and the id of a user. A username that
    /// no account has yet is that of the first user who registers it, so where users register themselves, name those who are there, or name ids.
    /// Default: none. May change at any time, and the pods of the moderation service are replaced then.
    #[x_kube(validation = Rule::new("self.all(name, name.matches('^([a-z][a-z0-9._-]{2,31}|id:[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12})$'))").message("moderation.moderators must be usernames (3 to 32 of a-z 0-9 . _ -, beginning with a letter) or ids of users (id: and a UUID)"))]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 100), inner(length(max = 39)))]
    pub moderators: Option<Vec<String>>,

    /// What gives texts labels that rules name. Default: none. May change at any time, and the pods of the moderation service are replaced then. Without it rules that
    /// name a label judge nothing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub classifier: Option<ClassifierSpec>,
}

/// The tenant's classifier of texts.
#[derive(KubeSchema, Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ClassifierSpec {
    /// An https URL on port 443 of a public host. It is sent `{"id", "text", "files": [{"name", "type"}]}` as JSON, of messages and edits that a rule with a label is in
    /// force for, signed as text messages are (`notifications.sms`), and answers `{"labels": {NAME: SCORE}}` in ten seconds, with scores from 0 to 1. The same
    /// `id` is the same text. 400, 413 and 422 say that it takes no such text; after anything else it is asked again, for up to six hours.
    #[x_kube(
        validation = Rule::new(r"self.matches('^https://[a-z0-9-]+([.][a-z0-9-]+)+(:443)?(/[A-Za-z0-9._~/-]*)?$')").message("classifier.url must be an https URL of a host name in lower case on port 443, without a user, query or fragment"),
        validation = Rule::new(r"!self.matches('^https://[^/:]*[.]([0-9]+|0x[0-9a-f]*)([/:].*)?$')").message("classifier.url must name a host: what ends in a number is an IP address")
    )]
    #[schemars(length(max = 512))]
    pub url: String,

    /// Where the key is that requests are signed with: 16 to 1024 printable ASCII characters, below the key `signingKey` unless `key` says otherwise. The Secret consents
    /// to this URL: its annotation `messenger.posthouse.dev/classifier-url` has it. It is copied into `<name>-classifier`; while it cannot be used, see
    /// `notifications.fcm`.
    pub signing_key_secret_ref: SecretKeyRef,
}

impl ClassifierSpec {
    /// Returns the key in the Secret.
    pub fn key(&self) -> &str {
        self.signing_key_secret_ref.key.as_deref().unwrap_or("signingKey")
    }
}

/// By what users are notified beside Web Push, webhooks and mails.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct NotificationsSpec {
    /// Firebase Cloud Messaging, which reaches apps of the tenant's own. Default: none. May change at any time, and the pods of the notification
    /// service are replaced then. Subscriptions stay: those of another project are given up or forgotten, as Firebase says.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fcm: Option<FcmSpec>,

    /// Text messages, which say how many messages a user has missed. Default: none. May change at any time, likewise.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sms: Option<SmsSpec>,
}

/// A project of Firebase.
#[derive(KubeSchema, Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct FcmSpec {
    /// Where the service account is that may send in this project: the file of Google's console, as it is, below the key `serviceAccount` unless
    /// `key` says otherwise. It is checked, and copied into `<name>-fcm`, from which the pods have it. While it cannot be used, pods
    /// stay as they are and `WorkloadsReady` names the next step, with reason `SecretInvalid`. What is changed in it reaches the pods within
    /// minutes. Tokens are requested of its `token_uri`, an https URL of a public host.
    pub service_account_secret_ref: SecretKeyRef,
}

impl FcmSpec {
    /// Returns the key in the Secret.
    pub fn key(&self) -> &str {
        self.service_account_secret_ref.key.as_deref().unwrap_or("serviceAccount")
    }
}

/// The tenant's hook for text messages.
#[derive(KubeSchema, Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SmsSpec {
    /// An https URL on port 443 of a public host. It is sent `{"id", "to", "text"}` as JSON, signed like webhooks of users: the header
    /// `posthouse-signature: t=<seconds>,v1=<hex>` has the HMAC-SHA256 of `<seconds>.<body>`. The same `id` is the same message. Any status of the
    /// 2xx family is success, 400 and 422 say that the number takes no text message, and anything else is repeated later. Users who want no more
    /// messages and say so to the provider are the provider's to remember.
    #[x_kube(
        validation = Rule::new(r"self.matches('^https://[a-z0-9-]+([.][a-z0-9-]+)+(:443)?(/[A-Za-z0-9._~/-]*)?$')").message("sms.url must be an https URL of a host name in lower case on port 443, without a user, query or fragment"),
        validation = Rule::new(r"!self.matches('^https://[^/:]*[.]([0-9]+|0x[0-9a-f]*)([/:].*)?$')").message("sms.url must name a host: what ends in a number is an IP address")
    )]
    #[schemars(length(max = 512))]
    pub url: String,

    /// Where the key is that requests are signed with: 16 to 1024 printable ASCII characters, below the key `signingKey` unless `key` says
    /// otherwise. The Secret consents to this URL: its annotation `messenger.posthouse.dev/sms-url` has it. Without that, an author of
    /// tenants who may not read Secrets could have a server of their own guess what is in any of them. It is copied into `<name>-sms`; while it
    /// cannot be used, see `fcm`.
    pub signing_key_secret_ref: SecretKeyRef,

    /// A user is sent one text message in so long, beside codes that confirm numbers. Default `1h`, at least `5m`, at most `24h`.
    #[x_kube(validation = Rule::new("duration(self) >= duration('5m') && duration(self) <= duration('24h')").message("sms.interval must lie between 5m and 24h"))]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub interval: Option<Period>,
}

impl SmsSpec {
    /// Returns the key in the Secret.
    pub fn key(&self) -> &str {
        self.signing_key_secret_ref.key.as_deref().unwrap_or("signingKey")
    }

    /// Returns how long after a text message a user may be sent the next one.
    pub fn interval(&self) -> Period {
        self.interval.unwrap_or(DEFAULT_SMS_INTERVAL)
    }
}

/// What the tenant's services report about their work.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ObservabilitySpec {
    /// How many requests and messages are traced. Without a collector in `observability.traces` of the cell it has no effect.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub traces: Option<TracesSpec>,
}

/// How many requests and messages of a tenant are traced.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct TracesSpec {
    /// The part of them, from 0 to 1; with 0 no pod sends traces. Default: the cell's. May change at any time; pods of all services are replaced.
    #[x_kube(validation = Rule::new("self >= 0.0 && self <= 1.0").message("observability.traces.ratio must lie between 0 and 1"))]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ratio: Option<f64>,
}

/// A key of a Secret beside the tenant.
#[derive(KubeSchema, Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SecretKeyRef {
    /// Name of the Secret.
    #[x_kube(validation = Rule::new(r"self.matches('^[a-z0-9]([a-z0-9.-]*[a-z0-9])?$')").message("secretRef.name must be the name of a Secret"))]
    #[schemars(length(max = 253))]
    pub name: String,

    /// Key in it. The field that names the Secret says the default.
    #[x_kube(validation = Rule::new(r"self.matches('^[A-Za-z0-9._-]+$')").message("secretRef.key must be a key of a Secret"))]
    #[schemars(length(min = 1, max = 253))]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key: Option<String>,
}

/// A token bucket of messages or requests.
#[derive(KubeSchema, Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[x_kube(validation = Rule::new("self.burst >= self.perSecond").message("burst must not be smaller than perSecond"))]
#[serde(rename_all = "camelCase")]
pub struct SendLimit {
    /// So many a second in the long run.
    #[x_kube(validation = Rule::new("self >= 1 && self <= 100000").message("perSecond must lie between 1 and 100000"))]
    pub per_second: i32,
    /// So many at once after a pause.
    #[x_kube(validation = Rule::new("self >= 1 && self <= 100000").message("burst must lie between 1 and 100000"))]
    pub burst: i32,
}

impl SendLimit {
    const fn rate(self) -> Rate {
        Rate::per_second(self.per_second.unsigned_abs(), self.burst.unsigned_abs())
    }
}

/// A token bucket of bytes.
#[derive(KubeSchema, Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[x_kube(validation = Rule::new("self.burst >= self.perSecond").message("burst must not be smaller than perSecond"))]
#[serde(rename_all = "camelCase")]
pub struct ByteLimit {
    /// Bytes a second in the long run.
    #[x_kube(validation = Rule::new("self >= 1024 && self <= 1073741824").message("perSecond must lie between 1024 and 1073741824"))]
    pub per_second: i32,
    /// Bytes at once after a pause: at least one message of the largest size.
    #[x_kube(validation = Rule::new("self >= 32768 && self <= 1073741824").message("burst must lie between 32768 and 1073741824"))]
    pub burst: i32,
}

impl ByteLimit {
    const fn rate(self) -> Rate {
        Rate::per_second(self.per_second.unsigned_abs(), self.burst.unsigned_abs())
    }
}

/// A token bucket for each client address.
#[derive(KubeSchema, Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[x_kube(validation = Rule::new("self.burst >= self.average").message("routing.rateLimit.burst must not be smaller than average"))]
#[serde(rename_all = "camelCase")]
pub struct RateLimit {
    /// Requests a second in the long run.
    #[x_kube(validation = Rule::new("self >= 1 && self <= 100000").message("routing.rateLimit.average must lie between 1 and 100000"))]
    pub average: i32,
    /// Burst of requests after a quiet period.
    #[x_kube(validation = Rule::new("self >= 1 && self <= 100000").message("routing.rateLimit.burst must lie between 1 and 100000"))]
    pub burst: i32,
}

/// What the operator found and did.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct TenantStatus {
    /// The generation of the spec this status speaks about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// The cell the tenant was placed on. Set once; it keeps its place when the cell shrinks.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cell: Option<String>,
    /// The hosts that the tenant holds, the main one first. They are routed to it, and to no other tenant.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hosts: Option<Vec<String>>,
    /// The tenant's addresses.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub endpoints: Option<Endpoints>,
    /// Kafka's part of the tenant.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kafka: Option<KafkaStatus>,
    /// The message store's part of the tenant.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub store: Option<StoreStatus>,
    /// What holds the tenant's data in a backend (keyspace, database, realm, bucket, search index), as that backend identifies it: it has another
    /// identity when it is recreated, and then pods are replaced. What is recorded here and is missing was lost with its data:
    /// it is not recreated until the annotation `messenger.posthouse.dev/accept-loss` accepts this loss, as the message of the
    /// condition says.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub generations: BTreeMap<String, String>,
    /// The id of the schema of each topic's records in the schema registry of the cell, by topic. Records carry it in a header.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub schema_ids: BTreeMap<String, i32>,
    /// How well the tenant meets its objectives, as the Prometheus of its cell says. None where the cell names no Prometheus, where that has not answered for a
    /// quarter of an hour, and of what the tenant does not do.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub objectives: Vec<Objective>,
    /// What its users do and store, likewise. What is absent is not known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub usage: Option<Usage>,
    /// Since when a suspended tenant is awake, because a request woke it. None while it sleeps, and of a tenant that is not suspended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub wake: Option<Wake>,
    /// One condition for each part and Ready, the summary. The message names the next step.
    #[schemars(description = conditions_doc())]
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["type".into()]))]
    pub conditions: Vec<Condition>,
}

/// How well a tenant meets one objective.
#[derive(KubeSchema, Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Objective {
    /// Its name, as the rules in Prometheus have it: `delivery`, `commands`, `sign_ins`, `syncs`, `notifications`.
    pub name: String,
    /// The part of all events that is to be as it should, from 0 to 1.
    pub target: f64,
    /// What is left of the faults that the target leaves for 30 days, in steps of 5: 100 is all, 0 nothing, and below 0 the target is missed. It is not shown
    /// below -100, and it moves when the figure is a whole step away.
    pub budget_remaining_percent: i32,
    /// Whether an alert fires because the budget goes too fast.
    pub burning: bool,
}

/// What the users of a tenant do and store. Figures have two digits, and one that is shown stays until the measured one is some way off: a quarter, and a twentieth of
/// bytes.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Usage {
    /// Connections of clients that are open.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub connections: Option<i64>,
    /// Messages, and changes of messages, that were stored in the last hour.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub messages_per_hour: Option<i64>,
    /// Bytes of all files, which `spec.media.quotaBytes` bounds. Absent without the media service.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub media_bytes: Option<i64>,
}

/// What woke a suspended tenant, and whether it is used since.
#[derive(KubeSchema, Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Wake {
    /// When it was woken.
    pub requested_at: Time,
    /// Since when no client is connected. None while one is, and while that is not known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub idle_since: Option<Time>,
}

/// The tenant's addresses.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Endpoints {
    /// Base URL of the REST APIs, which `docs` lists.
    pub web: String,
    /// WebSocket URL.
    pub ws: String,
    /// API documentation.
    pub docs: String,
    /// OpenID Connect issuer of the tenant's realm.
    pub issuer: String,
}

/// Kafka's part of the tenant.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct KafkaStatus {
    /// The id Kafka gave each topic when it was created. A topic that is recorded here and is gone from Kafka was lost
    /// with its messages: it is not recreated until the annotation `messenger.posthouse.dev/accept-loss` accepts this loss, as the
    /// message of the condition says.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub topics: BTreeMap<String, String>,
}

/// The message store's part of the tenant.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct StoreStatus {
    /// The tenant's keyspace.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub keyspace: Option<String>,
}

/// Names every condition a tenant has, in the order `kubectl describe` shows them.
fn conditions_doc() -> String {
    let parts: Vec<_> = ConditionType::parts().map(ConditionType::as_str).collect();
    format!(
        "One condition for each part ({}) and Ready, the summary. The message names the next step.",
        parts.join(", ")
    )
}

fn access_token_lifetime_doc() -> String {
    format!(
        "How long an access token is good for. Services check tokens without a call to Keycloak, so a user who was locked out there \
        may go on for at most this long. A sign-out and the deletion of an account close the user's WebSockets within seconds; REST \
        requests are served until the token expires. Default `{DEFAULT_ACCESS_TOKEN_LIFETIME}`, at least `1m`, at most \
        `{MAX_ACCESS_TOKEN_LIFETIME}`. May change at any time."
    )
}
