//! Carries out the plan: signals to replicas, edits of the manifests, harm to the folder of state.
//!
//! Invariant: what was done is noted with a time at which nobody could have suffered from it yet; a process is signalled only while it
//! carries this run's mark.

use crate::clock;
use crate::judge::History;
use crate::plan::{Edit, Fault, GUEST, Plan, SERVICES, Stroke};
use crate::program::{Place, eventually, is_ours, uptime_ms};
use crate::services::{Manifests, TABLE};
use crate::support::http_get;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use parking_lot::Mutex;
use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::sync::Arc;
use std::time::Duration;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, sleep_until};

/// Whoever does the damage.
#[derive(Debug, Clone)]
pub(crate) struct Hand {
    pub(crate) place: Place,
    pub(crate) mark: String,
    pub(crate) history: Arc<Mutex<History>>,
    /// How often each kind of fault hit.
    pub(crate) hits: Arc<Mutex<BTreeMap<&'static str, u64>>>,
}

impl Hand {
    /// The replicas of `service` that live, as `(name in the ledgers, pid)`.
    fn replicas(&self, service: usize) -> Vec<(String, i32)> {
        let name = |entry: fs::DirEntry| entry.file_name().into_string().ok();
        let mut found: Vec<(String, i32)> = fs::read_dir(self.place.ledgers())
            .into_iter()
            .flatten()
            .flatten()
            .filter_map(name)
            .filter_map(|name| {
                let (of, pid) = name.split_once('.')?;
                let pid = pid.parse().ok().filter(|_| of == TABLE[service].name)?;
                Some((name.clone(), pid))
            })
            .filter(|(_, pid)| is_ours(*pid, &self.mark))
            .collect();
        found.sort();
        found
    }

    /// Does everything that the plan has for replicas and the folder of state.
    pub(crate) async fn strike(self, strokes: Vec<Stroke>) {
        let begin = Instant::now();
        let mut stopped = JoinSet::new();
        for stroke in strokes {
            sleep_until(begin + stroke.at).await;
            if self.one(stroke, &mut stopped).unwrap_or(false) {
                *self.hits.lock().entry(stroke.fault.name()).or_insert(0) += 1;
            }
        }
        while stopped.join_next().await.is_some() {}
    }

    /// False when there was nothing to hit.
    fn one(&self, stroke: Stroke, stopped: &mut JoinSet<()>) -> io::Result<bool> {
        let signal = match stroke.fault {
            Fault::LoseState => return self.lose_state().map(|()| true),
            Fault::FullLogs => return self.fill_logs(stroke.service).map(|()| true),
            Fault::MoveClock { seconds } => return clock::set(&self.place, seconds).map(|()| true),
            Fault::Kill => Signal::SIGKILL,
            Fault::Stop { .. } => Signal::SIGSTOP,
            Fault::Refuse => Signal::SIGUSR1,
            Fault::Reset => Signal::SIGUSR2,
            Fault::Lie => Signal::SIGHUP,
        };
        // The service it is meant for, or the next one that is awake.
        let found = (0..SERVICES).map(|shift| (stroke.service + shift) % SERVICES).find_map(|service| {
            let replicas = self.replicas(service);
            replicas.get(stroke.pick.checked_rem(replicas.len())?).cloned()
        });
        let Some((name, pid)) = found else { return Ok(false) };
        let now = uptime_ms();
        let process = Pid::from_raw(pid);
        kill(process, signal)?;
        match stroke.fault {
            Fault::Kill => drop(self.history.lock().killed.insert(name, now)),
            Fault::Stop { ms } => {
                let (mark, history) = (self.mark.clone(), Arc::clone(&self.history));
                let closes_idle = TABLE.iter().any(|one| one.closes_idle && name.starts_with(one.name));
                stopped.spawn(async move {
                    sleep(Duration::from_millis(ms)).await;
                    if is_ours(pid, &mark) {
                        if closes_idle {
                            history.lock().overslept.push((name, uptime_ms()));
                        }
                        // It may have been killed meanwhile.
                        let _ = kill(process, Signal::SIGCONT);
                    }
                });
            }
            Fault::Refuse
            | Fault::Reset
            | Fault::Lie
            | Fault::LoseState
            | Fault::FullLogs
            | Fault::MoveClock { .. } => {}
        }
        Ok(true)
    }

    fn lose_state(&self) -> io::Result<()> {
        // kpa may write into it meanwhile.
        while let Err(error) = fs::remove_dir_all(self.place.state()) {
            if error.kind() != io::ErrorKind::DirectoryNotEmpty {
                return Err(error);
            }
        }
        Ok(())
    }

    /// The first log file of a service that it writes from now on leads to a device without room.
    pub(crate) fn fill_logs(&self, service: usize) -> io::Result<()> {
        let folder = self.place.state().join("logs").join(format!("default.{}", TABLE[service].name));
        fs::create_dir_all(&folder)?;
        let file = folder.join("0.log");
        if fs::symlink_metadata(&file).is_ok() {
            fs::remove_file(&file)?;
        }
        std::os::unix::fs::symlink("/dev/full", file)
    }

    /// Makes the plan's edits, evenly spread over `length`.
    pub(crate) async fn edit(
        self,
        plan: Plan,
        mut manifests: Manifests,
        length: Duration,
    ) -> Result<Manifests, String> {
        let (begin, every) = (Instant::now(), plan.edit_every(length));
        let mut removed = 0;
        for (number, edit) in (0_u32..).zip(plan.edits) {
            sleep_until(begin + every * number).await;
            let done = match edit {
                Edit::Harmless(service) => manifests.touch(service),
                Edit::Rollout(service) => manifests.roll_out(service),
                Edit::Break(service) => manifests.damage(service),
                Edit::Mend(service) => manifests.write(service),
                Edit::Remove => {
                    removed = uptime_ms();
                    manifests.remove(GUEST)
                }
                Edit::Restore => manifests.write(GUEST),
            };
            done.map_err(|error| format!("{edit:?}: {error}"))?;
            if edit == Edit::Restore {
                self.until_known().await?;
                self.history.lock().away.push((TABLE[GUEST].name, removed, uptime_ms()));
            }
        }
        Ok(manifests)
    }

    /// Waits until the guest is routed again.
    async fn until_known(&self) -> Result<(), String> {
        let proxy = self.place.proxy;
        let host = crate::clients::host(GUEST);
        eventually("the guest is routed again", async || {
            let host = host.clone();
            // A path that its replicas refuse, and do not write down.
            let answer = tokio::task::spawn_blocking(move || http_get(proxy, &host, "/known")).await.ok()??;
            (!answer.0.starts_with("HTTP/1.1 404")).then_some(())
        })
        .await
    }
}
