//! What Linux counts of its own accord, under the names of Oriel's counters: frames, context switches, interrupts of the NIC.

use std::collections::BTreeMap;
use std::fs;

/// The interface.
pub const INTERFACE: &str = "eth0";

/// Statistics of an interface, and the counters of Oriel that mean the same.
const STATISTICS: &[(&str, &str)] = &[
    ("rx_packets", "frames_in"),
    ("tx_packets", "frames_out"),
    ("rx_bytes", "bytes_in"),
    ("tx_bytes", "bytes_out"),
    ("rx_dropped", "rx_dropped"),
];

/// The counters at one moment.
#[derive(Debug, Default)]
pub struct Snapshot(BTreeMap<&'static str, u64>);

impl Snapshot {
    /// Reads them. What can't be read is left out, and so not reported.
    #[must_use]
    pub fn take() -> Self {
        let mut counters = BTreeMap::new();
        for (file, name) in STATISTICS {
            let path = format!("/sys/class/net/{INTERFACE}/statistics/{file}");
            if let Some(count) = fs::read_to_string(path).ok().and_then(|text| text.trim().parse().ok()) {
                counters.insert(*name, count);
            }
        }
        if let Ok(text) = fs::read_to_string("/proc/stat") {
            counters.extend(switches(&text).map(|count| ("switches", count)));
        }
        if let Ok(text) = fs::read_to_string("/proc/interrupts") {
            counters.insert("interrupts", interrupts(&text));
        }
        Self(counters)
    }

    /// Prints what `after` has more, as the end of a line for machines.
    pub fn print_gain(&self, after: &Self) {
        for (name, count) in &after.0 {
            let before = self.0.get(name).copied().unwrap_or(0);
            print!(" {name}={}", count.saturating_sub(before));
        }
        println!();
    }
}

/// Context switches, out of `/proc/stat`.
fn switches(text: &str) -> Option<u64> {
    text.lines().find_map(|line| line.strip_prefix("ctxt "))?.trim().parse().ok()
}

/// The network device's interrupts, out of `/proc/interrupts`: the e1000's line has the interface's name, virtio's queues
/// have theirs.
fn interrupts(text: &str) -> u64 {
    let lines = text.lines().filter(|line| {
        let name = line.split_whitespace().next_back().unwrap_or_default();
        name == INTERFACE || name.contains("-input.") || name.contains("-output.")
    });
    lines.filter_map(|line| line.split_whitespace().nth(1)?.parse::<u64>().ok()).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_of_a_real_kernel() {
        assert_eq!(switches("cpu  1 2\nctxt 4711\nbtime 1\n"), Some(4711));
        let e1000 =
            "           CPU0\n  4:  20  IO-APIC  4-edge  ttyS0\n 11: 1234  IO-APIC  11-fasteoi  eth0\n";
        assert_eq!(interrupts(e1000), 1234);
        let virtio = "  CPU0\n 24: 0 PCI-MSI 49152-edge virtio0-config\n 25: 300 PCI-MSI 49153-edge virtio0-input.0\n 26: 4 PCI-MSI 49154-edge virtio0-output.0\n";
        assert_eq!(interrupts(virtio), 304);
    }
}
