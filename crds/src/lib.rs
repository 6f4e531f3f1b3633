//! The custom resources of Posthouse: what a team writes ([`MessengerTenant`]), what an installation offers
//! ([`MessengerCell`]), and the closed vocabulary of their conditions.
//!
//! Everything here is data: no client, no runtime. The CRD YAML in `charts/posthouse-crds` is printed from these types by
//! `crdgen`, and a test compares the two.

#![expect(clippy::duplicated_attributes, reason = "every printer column has a name and a type")]

mod conditions;
mod messenger_cell;
mod messenger_tenant;
mod names;
mod period;
mod services;
mod template;
pub mod yaml;

pub use conditions::{ConditionType, Reason, Status};
pub use messenger_cell::{
    CellCapacity, CellClamav, CellCql, CellKafka, CellKeycloak, CellLimits, CellMonitoring,
    CellObservability, CellOpenSearch, CellPodMonitors, CellPostgres, CellPrometheus, CellRabbitMq,
    CellRedis, CellRouting, CellS3, CellSchemaRegistry, CellSmtp, CellStatus, CellTraces, CqlFlavor,
    Leftover, MessengerCell, MessengerCellSpec, MonitorLabels, OpenSearchSecurity, Scheme, SecretName,
    SecurityProtocol, SmtpTls, Tls,
};
pub use messenger_tenant::{
    BrandingSpec, ByteLimit, CellRef, ClassifierSpec, ClientSecretRef, DEFAULT_ACCESS_TOKEN_LIFETIME,
    DEFAULT_PARTITIONS, DEFAULT_RATE_LIMIT, DEFAULT_RETENTION, DeletionPolicy, Endpoints, FcmSpec,
    IdentityProvider, IdentitySpec, KafkaQuotas, KafkaSpec, KafkaStatus, LimitsSpec, MediaSpec,
    MessengerTenant, MessengerTenantSpec, ModerationSpec, NotificationsSpec, Objective, ObservabilitySpec,
    OptionalTopic, RateLimit, Registration, RoutingSpec, SecretKeyRef, SendLimit, SmsSpec, StoreStatus,
    TenantStatus, TracesSpec, Usage, Wake, WakeOnConnectSpec,
};
pub use names::{
    BucketName, CacheUser, DatabaseName, Host, KafkaUser, KeyspaceName, NameError, RealmName, SearchName,
    TenantId, TopicName, VirtualHost,
};
pub use period::{Period, PeriodError};
pub use services::{
    DEFAULT_REPLICAS, ResourceAmounts, ResourcesSpec, SearchEngine, ServiceSpec, ServicesSpec, SizeSpec,
    Topology,
};
pub use template::{
    AffinitySpec, Annotations, AutoscalingSpec, EnvSourceSpec, EnvSpec, KeyRef, Labels, NodeAffinitySpec,
    NodeOperator, NodeRequirement, NodeTerm, NodeTerms, PreferredNodes, PullSecret, SpreadSpec, TaintEffect,
    TemplateSpec, TolerationOperator, TolerationSpec, Unsatisfiable,
};

/// API group of both resources.
pub const GROUP: &str = "messenger.posthouse.dev";
/// The version that is served and stored.
pub const VERSION: &str = "v1alpha1";
/// Label on everything the operator creates for a tenant; the value is the tenant id.
pub const TENANT_LABEL: &str = "messenger.posthouse.dev/tenant";
/// Annotation that accepts a loss the operator reported as `DataLoss`. The value names the backend and the loss, as the message of
/// the condition does: `kafka:0a1b2c3d`. Several are comma separated. It accepts no other loss, so it may stay.
pub const ACCEPT_LOSS_ANNOTATION: &str = "messenger.posthouse.dev/accept-loss";
/// Annotation of a cell that lets a tenant adopt what a resource left that no longer exists: `UID:NAMESPACE/NAME`, the UID of that
/// resource and the tenant that gets its data. Several are comma separated.
pub const ADOPT_ANNOTATION: &str = "messenger.posthouse.dev/adopt";
/// Annotation of a Secret that a tenant names in `identity.providers`: the issuer to which its content may be sent.
pub const ISSUER_ANNOTATION: &str = "messenger.posthouse.dev/issuer";
/// Annotation of a Secret that a tenant names in `notifications.sms`: the URL of which requests may be signed with its content.
pub const SMS_URL_ANNOTATION: &str = "messenger.posthouse.dev/sms-url";
/// Annotation of a Secret that a tenant names in `moderation.classifier`: likewise.
pub const CLASSIFIER_URL_ANNOTATION: &str = "messenger.posthouse.dev/classifier-url";
/// Annotation of a Secret that a tenant names in a `template`: the tenant whose pods may have its content in their environment.
pub const ENV_ANNOTATION: &str = "messenger.posthouse.dev/env";
/// Finalizer on tenants: the outside systems are released or cleaned before the resource goes.
pub const FINALIZER: &str = "messenger.posthouse.dev/backends";
/// Finalizer on cells: where the data of tenants is must be known for as long as there is any.
pub const CELL_FINALIZER: &str = "messenger.posthouse.dev/tenants";
