//! What processes have used, read from `/proc`.

use std::fs;

/// Microseconds of a clock tick: `USER_HZ` is 100 wherever Linux runs.
const TICK: u64 = 10_000;

/// CPU time of a process with all its threads, in microseconds; 0 if it is gone.
pub(crate) fn cpu(pid: u32) -> u64 {
    stat(pid).map_or(0, |stat| stat.own)
}

/// CPU time of a process and of its children, those that have ended included. For PostgreSQL, whose processes are all children
/// of the first.
pub(crate) fn cpu_of_family(pid: u32) -> u64 {
    let Some(head) = stat(pid) else { return 0 };
    let children = fs::read_dir("/proc").into_iter().flatten().flatten();
    let pids = children.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    let alive: u64 = pids.filter_map(stat).filter(|stat| stat.parent == pid).map(|stat| stat.own).sum();
    head.own + head.ended_children + alive
}

/// CPU time of all that runs on the machine, in microseconds.
pub(crate) fn machine_cpu() -> u64 {
    let text = fs::read_to_string("/proc/stat").unwrap_or_default();
    let fields: Vec<u64> =
        text.lines().next().unwrap_or_default().split_whitespace().flat_map(str::parse).collect();
    // See `proc_stat(5)`: user, nice, system, idle, iowait, irq, softirq, steal, and guest, which user has in it.
    let idle: u64 = fields.iter().skip(3).take(2).sum();
    (fields.iter().take(8).sum::<u64>() - idle) * TICK
}

/// CPU time of this process, in microseconds.
pub(crate) fn own_cpu() -> u64 {
    cpu(std::process::id())
}

/// The most memory that a process has had, in bytes.
pub(crate) fn peak_memory(pid: u32) -> u64 {
    from_status(pid, "VmHWM:")
}

/// The memory that a process has, in bytes.
pub(crate) fn memory(pid: u32) -> u64 {
    from_status(pid, "VmRSS:")
}

/// Bytes that a process caused to be written to storage.
pub(crate) fn written(pid: u32) -> u64 {
    let text = fs::read_to_string(format!("/proc/{pid}/io")).unwrap_or_default();
    value(&text, "write_bytes:")
}

struct Stat {
    parent: u32,
    own: u64,
    ended_children: u64,
}

/// See `proc_pid_stat(5)`. The second field, the name, is in brackets and may itself hold anything.
fn stat(pid: u32) -> Option<Stat> {
    let text = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let fields: Vec<_> = text.rsplit_once(')')?.1.split_whitespace().collect();
    // Counted from 1 in the manual; `fields` begins with the third.
    let field = |number: usize| fields.get(number - 3)?.parse::<u64>().ok();
    Some(Stat {
        parent: u32::try_from(field(4)?).ok()?,
        own: (field(14)? + field(15)?) * TICK,
        ended_children: (field(16)? + field(17)?) * TICK,
    })
}

fn from_status(pid: u32, name: &str) -> u64 {
    value(&fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default(), name) * 1024
}

fn value(text: &str, name: &str) -> u64 {
    let line = text.lines().find_map(|line| line.strip_prefix(name));
    line.and_then(|line| line.split_whitespace().next()?.parse().ok()).unwrap_or(0)
}
