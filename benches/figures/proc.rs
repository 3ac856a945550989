//! What a process uses, and what machine it is on, from `/proc` (proc(5)). Linux only.

/// CPU time of a process and of everything that it started, ms. Children that have ended are in their parent's own sum.
#[cfg(target_os = "linux")]
pub(crate) fn tree_cpu_ms(root: u32) -> anyhow::Result<f64> {
    let stats: Vec<procfs::process::Stat> =
        procfs::process::all_processes()?.flatten().filter_map(|process| process.stat().ok()).collect();
    let mut family = vec![i32::try_from(root)?];
    let mut at = 0;
    while let Some(&parent) = family.get(at) {
        family.extend(stats.iter().filter(|stat| stat.ppid == parent).map(|stat| stat.pid));
        at += 1;
    }
    let ticks: i64 = stats
        .iter()
        .filter(|stat| family.contains(&stat.pid))
        .map(|stat| i64::try_from(stat.utime + stat.stime).unwrap_or(0) + stat.cutime + stat.cstime)
        .sum();
    Ok(ticks as f64 * 1000.0 / procfs::ticks_per_second() as f64)
}

/// Memory of a process, KiB: its own pages and its share of common ones (PSS).
#[cfg(target_os = "linux")]
pub(crate) fn pss_kib(pid: u32) -> anyhow::Result<f64> {
    let rollup = procfs::process::Process::new(i32::try_from(pid)?)?.smaps_rollup()?;
    // The kernel says "kB" and means KiB; procfs gives bytes.
    let bytes: u64 = rollup.memory_map_rollup.iter().filter_map(|map| map.extension.map.get("Pss")).sum();
    Ok(bytes as f64 / 1024.0)
}

/// The machine in a line.
#[cfg(target_os = "linux")]
pub(crate) fn host() -> String {
    use procfs::Current;
    let cpu = procfs::CpuInfo::current().ok();
    let model = cpu.as_ref().and_then(|cpu| cpu.model_name(0)).unwrap_or("unknown").to_owned();
    let memory = procfs::Meminfo::current().map_or(0, |memory| memory.mem_total >> 30);
    format!("{} × {model}, {memory} GiB", cpu.map_or(0, |cpu| cpu.num_cores()))
}

#[cfg(not(target_os = "linux"))]
pub(crate) fn tree_cpu_ms(_: u32) -> anyhow::Result<f64> {
    anyhow::bail!("the bench reads /proc; it runs on Linux")
}

#[cfg(not(target_os = "linux"))]
pub(crate) fn pss_kib(_: u32) -> anyhow::Result<f64> {
    anyhow::bail!("the bench reads /proc; it runs on Linux")
}

#[cfg(not(target_os = "linux"))]
pub(crate) fn host() -> String {
    "not Linux".to_owned()
}
