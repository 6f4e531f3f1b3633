//! Resident memory of our processes, as this machine's kernel tells it: the node's containers run on it.

use std::{collections::BTreeMap, fs};

use k8s_openapi::api::core::v1::Pod;
use kube::{Api, ResourceExt, api::ListParams};

use crate::Cluster;

/// Every image of ours starts this program.
const PROGRAM: &str = "/usr/local/bin/posthouse-service";

impl Cluster {
    /// Returns resident mebibytes of every process of ours by `<service> of <resource>`.
    pub async fn resident_memory(&self) -> anyhow::Result<BTreeMap<String, u64>> {
        let mut names = Vec::new();
        for pod in Api::<Pod>::all(self.client.clone()).list(&ListParams::default()).await? {
            let label = |name: &str| pod.labels().get(name).cloned().unwrap_or_default();
            let name =
                format!("{} of {}", label("app.kubernetes.io/name"), label("app.kubernetes.io/instance"));
            names.push((pod.uid().unwrap_or_default(), name));
        }
        let mut found = BTreeMap::new();
        for process in fs::read_dir("/proc")?.flatten() {
            let read = |file: &str| fs::read_to_string(process.path().join(file)).unwrap_or_default();
            if !read("cmdline").starts_with(PROGRAM) {
                continue;
            }
            let groups = read("cgroup");
            let Some((_, name)) = names.iter().find(|(uid, _)| groups.contains(uid.as_str())) else {
                continue;
            };
            let status = read("status");
            let resident =
                status.lines().find_map(|line| line.strip_prefix("VmRSS:")?.split_whitespace().next());
            let kibibytes: u64 = resident.and_then(|number| number.parse().ok()).unwrap_or_default();
            *found.entry(name.clone()).or_default() += kibibytes / 1024;
        }
        Ok(found)
    }
}

/// Returns the figures on one line.
pub fn line(resident: &BTreeMap<String, u64>) -> String {
    resident.iter().map(|(name, mebibytes)| format!("{name} {mebibytes} MiB")).collect::<Vec<_>>().join(", ")
}
