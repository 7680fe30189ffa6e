//! `store`: where flow state is kept.

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::Deserialize;

use super::scalar::{NameText, STORE, SecretDocument};

/// Where flow state is kept.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum StoreDocument {
    /// In this process, until it ends.
    Memory,
    /// In this file, relative to the one that names it.
    File(String),
    /// In Redis or Valkey.
    Redis(Box<RedisDocument>),
}

impl JsonSchema for StoreDocument {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Store".into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let mut redis = generator.subschema_for::<RedisDocument>();
        redis.insert("description".to_owned(), "Redis or Valkey, which several gateways may share.".into());
        json_schema!({
            "type": ["string", "object"],
            "description": "`memory`, or one of the stores that outlive the process.",
            "pattern": STORE.pattern,
            "properties": {
                "file": {
                    "type": "string",
                    "minLength": 1,
                    "description": "A file of this machine, relative to this one, for one gateway at a time. It is made with mode 0600 if it is not there."
                },
                "redis": redis
            },
            "minProperties": 1,
            "maxProperties": 1,
            "additionalProperties": false
        })
    }
}

/// Redis or Valkey, for several replicas: one server, one that sentinels name, or a cluster. Limits are counted there too.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RedisDocument {
    /// One server, such as `rediss://redis.example.com:6379`; `redis://` without TLS on this machine only.
    pub url: Option<String>,
    /// Some nodes of a cluster, each as in `url`.
    #[schemars(length(min = 1))]
    pub cluster: Option<Vec<String>>,
    /// The server that sentinels call the master.
    pub sentinel: Option<SentinelDocument>,
    /// The user, for servers with access control lists. Default: the server's default user.
    pub username: Option<String>,
    /// The password.
    pub password: Option<SecretDocument>,
    /// The number of the database; a cluster has only 0. Default: 0.
    pub database: Option<u16>,
    /// PEM file of the certificate authorities that are trusted instead of the system's, relative to this file.
    pub ca_file: Option<String>,
    /// What stands before every key, so that several installations can share servers. Default: `portcullis`.
    pub namespace: Option<NameText>,
}

/// Sentinels that know which server is the master.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SentinelDocument {
    /// What the sentinels call the group of servers, such as `mymaster`.
    pub master: String,
    /// The sentinels, such as `rediss://sentinel-1.example.com:26379`; with `rediss://` the servers speak TLS too.
    #[schemars(length(min = 1))]
    pub urls: Vec<String>,
    /// The user at the sentinels, if they have access control lists.
    pub username: Option<String>,
    /// The password at the sentinels.
    pub password: Option<SecretDocument>,
}
