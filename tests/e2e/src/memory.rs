//! Resident memory of our processes, as this machine's kernel tells it: the node's containers run on it.

use std::{collections::BTreeMap, fs};

/// Returns resident mebibytes by `<binary> <tenant>`, the operator without a tenant.
pub fn resident() -> BTreeMap<String, u64> {
    const BINARIES: [&str; 6] = ["operator", "gateway", "auth", "user", "chat", "message"];
    let mut found = BTreeMap::new();
    for entry in fs::read_dir("/proc").into_iter().flatten().flatten() {
        let path = entry.path();
        let Ok(command_line) = fs::read(path.join("cmdline")) else { continue };
        let words: Vec<&str> =
            command_line.split(|&byte| byte == 0).filter_map(|word| str::from_utf8(word).ok()).collect();
        let binary = words.first().and_then(|word| word.rsplit('/').next()).unwrap_or_default();
        if !BINARIES.contains(&binary) {
            continue;
        }
        let tenant = words.iter().enumerate().find_map(|(at, word)| match word.split_once('=') {
            Some(("--tenant", tenant)) => Some(tenant),
            _ if *word == "--tenant" => words.get(at + 1).copied(),
            _ => None,
        });
        let status = fs::read_to_string(path.join("status")).unwrap_or_default();
        let kibibytes = status
            .lines()
            .find_map(|line| line.strip_prefix("VmRSS:")?.split_whitespace().next()?.parse::<u64>().ok());
        let Some(kibibytes) = kibibytes else { continue };
        let name = format!("{binary} {}", tenant.unwrap_or_default());
        *found.entry(name.trim_end().to_owned()).or_default() += kibibytes / 1024;
    }
    found
}

/// Returns the figures on one line.
pub fn line(resident: &BTreeMap<String, u64>) -> String {
    resident.iter().map(|(name, mebibytes)| format!("{name} {mebibytes} MiB")).collect::<Vec<_>>().join(", ")
}
