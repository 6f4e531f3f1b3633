//! What processes use, as this machine's kernel reports it: the node's containers and the backends run on it.

use std::{collections::BTreeMap, fs, time::Duration};

use anyhow::Context;
use k8s_openapi::api::core::v1::Pod;
use kube::{Api, ResourceExt, api::ListParams};

use crate::Cluster;

/// Every image of ours starts this program.
const PROGRAM: &str = "/usr/local/bin/posthouse-service";
/// The kernel reports processor time in this many ticks a second, whatever its own clock does.
const TICKS_PER_SECOND: u32 = 100;

/// What a message or its trace passes beside our own processes: the name that is reported, and a part of the command line that nothing else has.
const BACKENDS: [(&str, &str); 5] = [
    ("kafka", "kafka.Kafka"),
    ("cassandra", "CassandraDaemon"),
    ("traefik", "traefik"),
    ("collector", "/otelcol"),
    ("zipkin", "zipkin-server"),
];
/// The process that measures, with its clients.
const OURSELVES: &str = "the clients";
/// All other processes of the machine.
const OTHERS: &str = "others";

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

    /// Returns the processor time that every process of this machine has taken since it started, by what it is: a service of `resource`, a
    /// backend, this program, or another one.
    pub async fn times(&self, resource: &str) -> anyhow::Result<BTreeMap<String, Duration>> {
        let mut found = BTreeMap::<String, Duration>::new();
        for ((service, of), usage) in self.usage().await? {
            let name = if of == resource { service } else { OTHERS.to_owned() };
            *found.entry(name).or_default() += usage.processor;
        }
        for process in fs::read_dir("/proc")?.flatten() {
            let read = |file: &str| fs::read_to_string(process.path().join(file)).unwrap_or_default();
            let command = read("cmdline");
            // What has ended meanwhile, and what is none, has no times.
            if !command.starts_with(PROGRAM)
                && let Some(took) = processor(&read("stat"))
            {
                let is_own = process.file_name().to_str() == Some(std::process::id().to_string().as_str());
                *found.entry(name_of(&command, is_own).to_owned()).or_default() += took;
            }
        }
        Ok(found)
    }
}

/// Returns as what a process that is none of our services is reported.
fn name_of(command: &str, is_own: bool) -> &'static str {
    if is_own {
        return OURSELVES;
    }
    BACKENDS.iter().find(|(_, part)| command.contains(part)).map_or(OTHERS, |(name, _)| *name)
}

/// Processor time per message, by what took it.
#[derive(Clone, Debug, Default)]
pub struct Costs {
    messages: usize,
    took: BTreeMap<String, Duration>,
}

impl Costs {
    /// Adds what was taken between two moments, for so many messages.
    pub fn add(
        &mut self,
        messages: usize,
        before: &BTreeMap<String, Duration>,
        after: &BTreeMap<String, Duration>,
    ) {
        self.messages += messages;
        for (name, time) in after {
            // One that has ended has taken its time with it.
            let took = time.saturating_sub(before.get(name).copied().unwrap_or_default());
            *self.took.entry(name.clone()).or_default() += took;
        }
    }

    /// Returns the milliseconds of a message, without what has no part in it.
    pub fn each_ms(&self) -> f64 {
        let took = self.took.iter().filter(|(name, _)| *name != OTHERS);
        took.map(|(_, took)| self.of_each(*took)).sum()
    }

    fn of_each(&self, took: Duration) -> f64 {
        took.as_secs_f64() * 1_000.0 / self.messages.max(1) as f64
    }

    /// Returns the milliseconds of each message on one line, the largest first, and their sum without what has no part in it.
    pub fn line(&self) -> String {
        let mut parts: Vec<(&str, f64)> =
            self.took.iter().map(|(name, took)| (name.as_str(), self.of_each(*took))).collect();
        parts.sort_by(|(_, one), (_, other)| other.total_cmp(one));
        let sum = self.each_ms();
        let shown = parts.iter().filter(|(_, took)| *took >= 0.001);
        let shown: Vec<String> = shown.map(|(name, took)| format!("{name} {took:.3}")).collect();
        format!("{sum:.3} CPU-ms without others ({})", shown.join(", "))
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

    #[test]
    fn what_a_message_costs_is_told_apart_by_process() {
        assert_eq!(name_of("java\0-Xmx320m\0kafka.Kafka\0kafka.properties", false), "kafka");
        assert_eq!(name_of("/cache/otelcol/1a2b/otelcol\0--config=otelcol.yaml", false), "collector");
        assert_eq!(name_of("bash", false), OTHERS);
        assert_eq!(name_of("target/release/latency", true), OURSELVES);
        let times = |kafka, message, others| -> BTreeMap<String, Duration> {
            let of = |(name, millis): (&str, u64)| (name.to_owned(), Duration::from_millis(millis));
            [("kafka", kafka), ("message", message), (OTHERS, others)].map(of).into()
        };
        let mut costs = Costs::default();
        costs.add(10, &times(100, 50, 0), &times(103, 51, 0));
        costs.add(10, &times(200, 60, 0), &times(203, 61, 40));
        assert_eq!(costs.line(), "0.400 CPU-ms without others (others 2.000, kafka 0.300, message 0.100)");
    }
}
