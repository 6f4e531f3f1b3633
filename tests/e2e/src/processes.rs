//! What our processes use, as this machine's kernel reports it: the node's containers run on it.

use std::{collections::BTreeMap, fs, time::Duration};

use anyhow::Context;
use k8s_openapi::api::core::v1::Pod;
use kube::{Api, ResourceExt, api::ListParams};

use crate::Cluster;

/// Every image of ours starts this program.
const PROGRAM: &str = "/usr/local/bin/posthouse-service";
/// The kernel reports processor time in this many ticks a second, whatever its own clock does.
const TICKS_PER_SECOND: u32 = 100;

/// What the processes of one service of one tenant use, or those of the operator.
#[derive(Clone, Copy, Debug, Default)]
pub struct Usage {
    pub resident_mebibytes: u64,
    /// Since the processes started.
    pub processor: Duration,
}

impl Cluster {
    /// Returns what every process of ours uses, by service and resource.
    pub async fn usage(&self) -> anyhow::Result<BTreeMap<(String, String), Usage>> {
        let mut names = Vec::new();
        for pod in Api::<Pod>::all(self.client.clone()).list(&ListParams::default()).await? {
            let label = |name: &str| pod.labels().get(name).cloned().unwrap_or_default();
            let name = (label("app.kubernetes.io/name"), label("app.kubernetes.io/instance"));
            names.push((pod.uid().unwrap_or_default(), name));
        }
        let mut found = BTreeMap::<_, Usage>::new();
        for process in fs::read_dir("/proc")?.flatten() {
            let read = |file: &str| fs::read_to_string(process.path().join(file)).unwrap_or_default();
            if !read("cmdline").starts_with(PROGRAM) {
                continue;
            }
            let groups = read("cgroup");
            let Some((_, name)) = names.iter().find(|(uid, _)| groups.contains(uid.as_str())) else {
                continue;
            };
            let usage = found.entry(name.clone()).or_default();
            usage.resident_mebibytes += resident_kibibytes(&read("status")).unwrap_or_default() / 1024;
            usage.processor +=
                processor(&read("stat")).with_context(|| format!("{process:?} has no times"))?;
        }
        Ok(found)
    }
}

fn resident_kibibytes(status: &str) -> Option<u64> {
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    line.split_whitespace().next()?.parse().ok()
}

/// Reads user and system time from `/proc/<pid>/stat`, see proc(5): fields 14 and 15, counted after the program's name,
/// which may hold blanks.
fn processor(stat: &str) -> Option<Duration> {
    let mut fields = stat.rsplit_once(')')?.1.split_whitespace().skip(11);
    let ticks: u32 = fields.next()?.parse::<u32>().ok()? + fields.next()?.parse::<u32>().ok()?;
    Some(Duration::from_secs(1) * ticks / TICKS_PER_SECOND)
}

/// Returns the memory of every service on one line.
pub fn memory_line(usage: &BTreeMap<(String, String), Usage>) -> String {
    let parts = usage.iter().map(|((service, resource), usage)| {
        format!("{service} of {resource} {} MiB", usage.resident_mebibytes)
    });
    parts.collect::<Vec<_>>().join(", ")
}

/// Returns the memory of every service of one resource on one line.
pub fn memory_of(usage: &BTreeMap<(String, String), Usage>, resource: &str) -> String {
    let own = usage.iter().filter(|((_, of), _)| of == resource);
    let parts = own.map(|((service, _), usage)| format!("{service} {} MiB", usage.resident_mebibytes));
    parts.collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernels_figures_are_read() {
        let stat = "42 (a (b) c) S 1 42 42 0 -1 4194560 100 0 0 0 250 150 0 0 20 0 7 0 1234 1 2";
        assert_eq!(processor(stat), Some(Duration::from_secs(4)));
        assert_eq!(processor("42 (a) S"), None);
        assert_eq!(resident_kibibytes("VmPeak:\t 9 kB\nVmRSS:\t  2048 kB\n"), Some(2048));
    }
}
