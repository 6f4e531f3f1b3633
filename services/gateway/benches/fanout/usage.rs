//! What a process uses, as the kernel reports it.

use std::{fs, ops::Sub, time::Duration};

use anyhow::Context as _;

/// The kernel reports processor time in this many ticks a second, whatever its own clock does.
const TICKS_PER_SECOND: u32 = 100;

/// Processor time since the start, user and system, and memory.
#[derive(Clone, Copy, Debug)]
pub struct Usage {
    pub processor: Duration,
    pub resident_kib: f64,
    /// What no other process has in memory too.
    pub private_kib: f64,
}

impl Usage {
    pub fn of(process: u32) -> anyhow::Result<Self> {
        let read = |file: &str| {
            fs::read_to_string(format!("/proc/{process}/{file}"))
                .with_context(|| format!("process {process} is gone"))
        };
        let (stat, memory) = (read("stat")?, read("smaps_rollup")?);
        let processor = processor(&stat).context("/proc/<pid>/stat has no times")?;
        let kib = |name: &str| {
            let line = memory.lines().find_map(|line| line.strip_prefix(name));
            line.and_then(|line| line.split_whitespace().next()?.parse::<f64>().ok())
                .with_context(|| format!("smaps_rollup has no {name}"))
        };
        let private_kib = kib("Private_Clean:")? + kib("Private_Dirty:")?;
        Ok(Self { processor, resident_kib: kib("Rss:")?, private_kib })
    }
}

impl Sub for Usage {
    type Output = Self;

    fn sub(self, before: Self) -> Self {
        Self {
            processor: self.processor.saturating_sub(before.processor),
            resident_kib: self.resident_kib - before.resident_kib,
            private_kib: self.private_kib - before.private_kib,
        }
    }
}

/// Reads user and system time from `/proc/<pid>/stat`, see proc(5): fields 14 and 15, counted after the program's name,
/// which may hold blanks.
fn processor(stat: &str) -> Option<Duration> {
    let mut fields = stat.rsplit_once(')')?.1.split_whitespace().skip(11);
    let ticks: u32 = fields.next()?.parse::<u32>().ok()? + fields.next()?.parse::<u32>().ok()?;
    Some(Duration::from_secs(1) * ticks / TICKS_PER_SECOND)
}
