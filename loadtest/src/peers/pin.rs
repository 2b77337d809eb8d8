//! Which core a thread, and what it starts, runs on.

use anyhow::Context as _;
use nix::sched::{CpuSet, sched_getaffinity, sched_setaffinity};
use nix::unistd::Pid;

/// The two cores of the benchmark.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Cores {
    /// For the proxy whose turn it is.
    pub(super) proxy: usize,
    /// For backend and load generator.
    pub(super) load: usize,
}

impl Cores {
    /// The first two that this process may use.
    pub(super) fn choose() -> anyhow::Result<Self> {
        let allowed = sched_getaffinity(Pid::from_raw(0)).context("the cores of this process are not known")?;
        let mut cores = (0..CpuSet::count()).filter(|core| allowed.is_set(*core).unwrap_or(false));
        let (proxy, load) = cores.next().zip(cores.next()).context("this benchmark needs two cores")?;
        Ok(Self { proxy, load })
    }
}

/// Keeps the calling thread, and every process it starts from now on, on one core.
pub(super) fn current_thread(core: usize) -> nix::Result<()> {
    let mut set = CpuSet::new();
    set.set(core)?;
    sched_setaffinity(Pid::from_raw(0), &set)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pinned_thread_has_one_core() {
        let Ok(cores) = Cores::choose() else { return };
        assert_ne!(cores.proxy, cores.load);
        // On a thread of its own: the affinity would stay with the next test otherwise.
        let pinned = std::thread::spawn(move || {
            current_thread(cores.load).unwrap();
            Cores::choose().is_err()
        });
        assert!(pinned.join().unwrap());
    }
}
