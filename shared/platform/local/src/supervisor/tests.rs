//! Tables and properties of the supervisor, in virtual time.

use super::*;
use domain::EndpointState;
use proptest::prelude::*;
use std::path::PathBuf;

const GRACE: Duration = Duration::from_secs(30);

fn workload(name: &str) -> Workload {
    Workload {
        id: RevisionId::new("default", name),
        replicas: Replicas::ONE,
        command: vec!["serve".into()],
        env: Vec::new(),
        working_dir: PathBuf::from("/"),
        port: Some(8000),
        readiness: None,
        startup: None,
        liveness: None,
        pre_stop: None,
        termination_grace: GRACE,
        gpus: 0,
    }
}

fn crash() -> Seen {
    Seen::Exited(Failure { reason: None, message: "ended with status 1".into(), permanent: false })
}

fn app() -> RevisionId {
    RevisionId::new("default", "app")
}

/// A supervisor with a clock and a list of the processes that exist.
struct World {
    supervisor: Supervisor,
    now: Timestamp,
    /// Every process that was started and has not ended, in the order of their starts.
    alive: Vec<Launch>,
    told_to_stop: Vec<EndpointId>,
    killed: Vec<EndpointId>,
}

impl World {
    fn new(gpus: u32) -> Self {
        let ports = Ports::new(20_000..=20_999, 0);
        Self {
            supervisor: Supervisor::new(ports, gpus, 7),
            now: Timestamp::from_secs(1000),
            alive: Vec::new(),
            told_to_stop: Vec::new(),
            killed: Vec::new(),
        }
    }

    fn with(workload: Workload, requested: u32) -> Self {
        let mut world = Self::new(0);
        world.supervisor.apply(Arc::new(workload), Replicas::new(requested));
        world.turn();
        world
    }

    /// Carries out what follows.
    fn turn(&mut self) -> usize {
        let actions = self.supervisor.next(self.now);
        let count = actions.len();
        for action in actions {
            match action {
                Action::Start(launch) => self.alive.push(launch),
                Action::Stop(id) => self.told_to_stop.push(id),
                Action::Kill(id) => self.killed.push(id),
            }
        }
        assert!(self.supervisor.next(self.now).is_empty(), "asking again without news gives nothing");
        count
    }

    fn wait(&mut self, span: Duration) -> usize {
        self.now += span;
        self.turn()
    }

    fn see(&mut self, id: &EndpointId, seen: Seen) {
        if matches!(seen, Seen::Exited(_) | Seen::PortTaken) {
            self.alive.retain(|launch| launch.id != *id);
        }
        self.supervisor.seen(self.now, id, seen);
        self.turn();
    }

    fn see_all_ready(&mut self) {
        for id in self.ids() {
            self.see(&id, Seen::Ready);
        }
    }

    fn end_all_told(&mut self) {
        for id in std::mem::take(&mut self.told_to_stop) {
            self.see(&id, crash());
        }
    }

    fn scale(&mut self, from: u32, to: u32, remove_first: &[EndpointId]) -> Result<(), ScaleError> {
        let (from, to) = (Replicas::new(from), Replicas::new(to));
        let done = self.supervisor.scale(self.now, &app(), from, to, remove_first);
        self.turn();
        done
    }

    fn draining(&self) -> Vec<EndpointId> {
        let endpoints = self.view().endpoints.into_iter();
        endpoints.filter(|one| one.state == EndpointState::Draining).map(|one| one.id).collect()
    }

    /// Says that those who drain are idle.
    fn let_go(&mut self) {
        let (requested, draining) = (self.view().requested.get(), self.draining());
        self.scale(requested, requested, &draining).unwrap();
    }

    fn ids(&self) -> Vec<EndpointId> {
        self.alive.iter().map(|launch| launch.id.clone()).collect()
    }

    fn view(&self) -> View {
        self.supervisor.view(&app()).expect("the revision exists")
    }

    fn states(&self) -> Vec<EndpointState> {
        self.view().endpoints.iter().map(|endpoint| endpoint.state).collect()
    }

    fn trouble(&self) -> Option<(String, bool)> {
        self.view().trouble.map(|trouble| (trouble.reason, trouble.permanent))
    }
}

#[test]
fn nothing_runs_before_somebody_asks() {
    let mut world = World::with(workload("app"), 0);
    assert!(world.alive.is_empty());
    world.scale(0, 2, &[]).unwrap();
    assert_eq!(world.alive.len(), 2);
    assert_eq!(world.alive.iter().map(|launch| launch.slot).collect::<Vec<_>>(), [0, 1]);
    assert_eq!(world.states(), [EndpointState::Starting; 2]);
    let first = world.ids()[0].clone();
    world.see(&first, Seen::Ready);
    assert_eq!(world.states(), [EndpointState::Ready, EndpointState::Starting]);
    assert_eq!((world.view().requested, world.view().ready), (Replicas::new(2), Replicas::ONE));
}

#[test]
fn lowering_is_a_compare_and_set() {
    let mut world = World::with(workload("app"), 3);
    assert_eq!(world.scale(2, 1, &[]), Err(ScaleError::Changed { now: Replicas::new(3) }));
    assert_eq!(world.told_to_stop.len(), 0);
    // A raise that was decided from an old count would lower: it is refused as well.
    assert_eq!(world.scale(0, 2, &[]), Err(ScaleError::Changed { now: Replicas::new(3) }));
    world.scale(1, 4, &[]).unwrap();
    assert_eq!(world.alive.len(), 4);
    assert!(matches!(
        world.supervisor.scale(world.now, &RevisionId::new("default", "x"), Replicas::ZERO, Replicas::ONE, &[]),
        Err(ScaleError::NotFound(_))
    ));
}

#[test]
fn exactly_the_named_leave_first() {
    let mut world = World::with(workload("app"), 4);
    world.see_all_ready();
    let ids = world.ids();
    world.scale(4, 2, &[ids[1].clone(), EndpointId::new("unknown"), ids[0].clone(), ids[3].clone()]).unwrap();
    assert_eq!(world.told_to_stop, [ids[1].clone(), ids[0].clone()]);
    assert_eq!(world.view().endpoints.len(), 2, "one that was told to end is no endpoint any more");
    assert_eq!(world.view().ready, Replicas::new(2));
}

#[test]
fn without_names_the_youngest_unready_leave_then_the_youngest() {
    let mut world = World::with(workload("app"), 5);
    let ids = world.ids();
    world.see(&ids[0], Seen::Ready);
    world.see(&ids[2], Seen::Ready);
    world.see(&ids[4], Seen::Ready);
    world.scale(5, 1, &[]).unwrap();
    let left = [3, 1, 4, 2].map(|index| ids[index].clone());
    assert_eq!(world.told_to_stop, left);
}

#[test]
fn a_replica_that_does_not_end_is_killed_after_its_grace() {
    let mut world = World::with(workload("app"), 1);
    let id = world.ids().remove(0);
    world.scale(1, 0, &[]).unwrap();
    assert_eq!(world.supervisor.next_check(world.now), Some(world.now + GRACE));
    assert_eq!(world.wait(GRACE.saturating_sub(Duration::from_millis(1))), 0);
    assert_eq!(world.wait(Duration::from_millis(1)), 1);
    assert_eq!(world.killed, std::slice::from_ref(&id));
    assert_eq!(world.supervisor.processes(), 1, "it exists until its end was seen");
    world.see(&id, crash());
    assert_eq!(world.supervisor.processes(), 0);
    assert!(world.alive.is_empty());
}

#[test]
fn a_crash_restarts_at_once_then_with_growing_waits() {
    let mut world = World::with(workload("app"), 1);
    let mut names = Vec::new();
    for wait in [0, 10, 20, 40] {
        let id = world.ids().remove(0);
        world.see(&id, crash());
        names.push(id);
        if wait > 0 {
            assert!(world.alive.is_empty());
            assert!(world.view().endpoints.is_empty());
            assert_eq!(world.trouble(), Some(("CrashLoopBackOff".into(), names.len() >= 3)), "three in vain");
            assert_eq!(world.supervisor.next_check(world.now), Some(world.now + Duration::from_secs(wait)));
            assert_eq!(world.wait(Duration::from_millis(wait * 1000 - 1)), 0);
            assert_eq!(world.wait(Duration::from_millis(1)), 1);
        }
        assert_eq!(world.alive[0].slot, 0, "it keeps its slot");
        assert!(!names.contains(&world.alive[0].id), "and not its name");
    }
    world.see_all_ready();
    assert_eq!(world.trouble(), None);
}

#[test]
fn a_command_that_does_not_exist_is_permanent_trouble_at_once() {
    let mut world = World::with(workload("app"), 1);
    let id = world.ids().remove(0);
    let failure = Failure { reason: Some("CommandNotFound"), message: "no program".into(), permanent: true };
    world.see(&id, Seen::Exited(failure));
    assert_eq!(world.trouble(), Some(("CommandNotFound".into(), true)));
}

#[test]
fn a_taken_port_is_no_crash_and_is_not_tried_again() {
    let mut world = World::with(workload("app"), 1);
    let mut ports = vec![world.alive[0].port];
    for _ in 0..PORT_CHANGES_MAX {
        let id = world.ids().remove(0);
        world.see(&id, Seen::PortTaken);
        assert_eq!(world.alive.len(), 1, "another start at once");
        assert!(!ports.contains(&world.alive[0].port));
        ports.push(world.alive[0].port);
    }
    assert_eq!(world.trouble(), None);
    for _ in 0..2 * PORT_CHANGES_MAX {
        if let Some(id) = world.ids().pop() {
            world.see(&id, Seen::PortTaken);
        }
    }
    assert!(world.trouble().is_some(), "for ever it is one");
}

#[test]
fn an_unready_replica_is_no_target_and_comes_back() {
    let mut world = World::with(workload("app"), 1);
    let id = world.ids().remove(0);
    world.see(&id, Seen::Ready);
    world.see(&id, Seen::Unready);
    assert_eq!((world.states(), world.view().ready), (vec![EndpointState::Starting], Replicas::ZERO));
    world.see(&id, Seen::Ready);
    assert_eq!(world.states(), [EndpointState::Ready]);
}

#[test]
fn an_unhealthy_replica_is_replaced_with_its_crash_record() {
    let mut world = World::with(workload("app"), 1);
    let failure = || Failure { reason: Some("LivenessProbeFailed"), message: "failed".into(), permanent: false };
    let first = world.ids().remove(0);
    world.see(&first, Seen::Ready);
    world.see(&first, Seen::Unhealthy(failure()));
    assert_eq!(world.told_to_stop, std::slice::from_ref(&first));
    assert_eq!(world.alive.len(), 2);
    world.see(&first, crash());
    let second = world.ids().remove(0);
    world.see(&second, Seen::Unhealthy(failure()));
    world.see(&second, crash());
    assert!(world.alive.is_empty(), "the second time it waits");
    assert_eq!(world.trouble(), Some(("LivenessProbeFailed".into(), false)));
}

#[test]
fn a_rollout_starts_first_and_drains_what_is_replaced() {
    let mut world = World::with(workload("app"), 4);
    world.see_all_ready();
    let old = world.ids();
    let edited = Workload { command: vec!["serve".into(), "--new".into()], ..workload("app") };
    world.supervisor.apply(Arc::new(edited), Replicas::ZERO);
    world.supervisor.set_drain_timeout(&app(), Duration::from_secs(3600));
    world.turn();
    assert_eq!(world.alive.len(), 5, "a quarter more");
    assert_eq!(world.view().ready, Replicas::new(4));

    let newest = world.ids().pop().unwrap();
    world.see(&newest, Seen::Ready);
    assert_eq!(world.draining(), [old[0].clone()]);
    world.wait(Duration::from_secs(3600));
    assert!(world.told_to_stop.is_empty(), "it may have requests until somebody says that it has none");
    world.let_go();
    assert_eq!(world.told_to_stop, [old[0].clone()]);

    for _ in 0..4 {
        world.end_all_told();
        world.see_all_ready();
        world.let_go();
    }
    world.end_all_told();
    assert_eq!(world.alive.len(), 4);
    assert!(world.alive.iter().all(|launch| launch.workload.command.len() == 2));
    assert_eq!(world.view().ready, Replicas::new(4));
}

#[test]
fn a_restart_replaces_every_process_by_one_of_the_same_version() {
    let mut world = World::with(workload("app"), 2);
    world.supervisor.set_drain_timeout(&app(), Duration::from_secs(3600));
    world.see_all_ready();
    let old = world.ids();
    assert_eq!(world.supervisor.restart(&app()), Some(old.clone()));
    world.turn();
    assert_eq!(world.view().ready, Replicas::new(2), "new ones start before any old one leaves");
    for _ in 0..2 {
        world.see_all_ready();
        world.let_go();
        world.end_all_told();
    }
    assert!(old.iter().all(|id| !world.ids().contains(id)));
    assert_eq!((world.alive.len(), world.view().ready), (2, Replicas::new(2)));
    assert!(world.alive.iter().all(|launch| *launch.workload == workload("app")));
    world.supervisor.remove(&app());
    assert_eq!(world.supervisor.restart(&app()), None);
}

#[test]
fn every_state_of_a_replica_is_shown_to_people() {
    use crate::operate::ReplicaState::{Backoff, Draining, Pending, Ready, Starting, Stopping};
    let word = |world: &World| {
        let all = world.supervisor.replicas(world.now);
        all.iter().map(|replica| (replica.state, replica.pid, replica.restarts)).collect::<Vec<_>>()
    };
    let mut world = World::new(1);
    world.supervisor.apply(Arc::new(Workload { gpus: 1, ..workload("app") }), Replicas::ONE);
    world.turn();
    let first = world.ids().remove(0);
    world.see(&first, Seen::Started(41));
    assert_eq!(word(&world), [(Starting, Some(41), 0)]);
    world.see(&first, Seen::Ready);
    assert_eq!(word(&world), [(Ready, Some(41), 0)]);
    world.now += Duration::from_secs(5);
    let shown = world.supervisor.replicas(world.now).remove(0);
    assert_eq!((shown.name.as_str(), shown.age_seconds, shown.outdated), ("app-0", 5, false));
    assert_eq!(shown.address, Some(world.view().endpoints[0].address));
    // Its successor waits for the GPU that it holds.
    world.supervisor.set_drain_timeout(&app(), Duration::from_secs(3600));
    world.supervisor.restart(&app()).unwrap();
    world.turn();
    assert_eq!(word(&world), [(Draining, Some(41), 0), (Pending, None, 0)]);
    assert_eq!(world.supervisor.replicas(world.now)[1].reason.as_deref(), Some("waits for free GPUs"));
    world.let_go();
    assert_eq!(word(&world)[0], (Stopping, Some(41), 0));
    world.end_all_told();
    assert_eq!(word(&world), [(Starting, None, 0)]);
    for _ in 0..2 {
        let id = world.ids().remove(0);
        world.see(&id, crash());
    }
    assert_eq!(word(&world), [(Backoff, None, 2)]);
    let shown = world.supervisor.replicas(world.now).remove(0);
    assert_eq!((shown.retry_after_seconds, shown.reason.as_deref()), (Some(10.0), Some("ended with status 1")));
}

#[test]
fn what_was_told_to_end_is_told_until_it_is_gone() {
    let mut world = World::with(workload("app"), 2);
    world.see_all_ready();
    let ids = world.ids();
    world.scale(2, 1, &ids[..1]).unwrap();
    let counts = |world: &World| (world.view().endpoints.len(), world.view().terminating.get());
    assert_eq!(counts(&world), (1, 1));
    world.wait(GRACE);
    assert_eq!((world.killed.len(), counts(&world)), (1, (1, 1)), "killed is not gone");
    world.see(&ids[0], crash());
    assert_eq!(counts(&world), (1, 0));
}

#[test]
fn exclusive_replicas_take_each_others_place_one_at_a_time() {
    let mut world = World::with(workload("app"), 1);
    world.supervisor.set_exclusive(&app(), true);
    world.see_all_ready();
    let old = world.ids().remove(0);
    world.supervisor.apply(Arc::new(Workload { command: vec!["new".into()], ..workload("app") }), Replicas::ZERO);
    world.turn();
    assert_eq!(world.draining(), std::slice::from_ref(&old));
    world.let_go();
    assert_eq!(world.ids(), std::slice::from_ref(&old), "nothing starts beside it");
    world.see(&old, crash());
    assert_eq!(world.alive[0].workload.command, ["new"]);
    let new = world.ids().remove(0);
    world.see(&new, Seen::Ready);
    let failed = Failure { reason: None, message: "no answer".into(), permanent: false };
    world.see(&new, Seen::Unhealthy(failed));
    assert_eq!(world.ids(), std::slice::from_ref(&new), "nor beside one that failed its probe");
    world.scale(1, 0, &[]).unwrap();
    world.scale(0, 1, &[]).unwrap();
    assert_eq!(world.ids(), std::slice::from_ref(&new), "nor beside one that is still ending");
    world.see(&new, crash());
    assert_eq!(world.alive.len(), 1);
    assert_ne!(world.ids()[0], new);
}

#[test]
fn a_new_version_that_crashes_leaves_the_old_one_serving() {
    let mut world = World::with(workload("app"), 2);
    world.see_all_ready();
    let old = world.ids();
    world.supervisor.apply(Arc::new(Workload { command: vec!["bad".into()], ..workload("app") }), Replicas::ZERO);
    world.turn();
    for _ in 0..5 {
        if let Some(launch) = world.alive.iter().find(|launch| launch.workload.command == ["bad"]) {
            let id = launch.id.clone();
            world.see(&id, crash());
        }
        world.wait(Duration::from_secs(300));
    }
    assert!(world.told_to_stop.is_empty());
    assert!(old.iter().all(|id| world.ids().contains(id)));
    assert_eq!(world.trouble(), Some(("CrashLoopBackOff".into(), true)));
}

#[test]
fn another_count_in_the_manifest_is_no_other_process() {
    let mut world = World::with(workload("app"), 2);
    world.see_all_ready();
    world.supervisor.apply(Arc::new(Workload { replicas: Replicas::new(9), ..workload("app") }), Replicas::ZERO);
    assert_eq!(world.turn(), 0);
}

#[test]
fn gpus_are_shared_out_and_bound_the_count() {
    let mut world = World::new(4);
    world.supervisor.apply(Arc::new(Workload { gpus: 2, ..workload("app") }), Replicas::new(3));
    world.turn();
    assert_eq!(world.alive.iter().map(|launch| launch.gpus.clone()).collect::<Vec<_>>(), [vec![0, 1], vec![2, 3]]);
    assert_eq!(world.trouble(), Some(("InsufficientGpus".into(), false)));
    let first = world.ids().remove(0);
    world.see(&first, crash());
    assert_eq!(world.alive[1].gpus, [0, 1], "given back and taken again");
}

#[test]
fn a_rollout_without_spare_gpus_gives_up_one_place_at_a_time() {
    let mut world = World::new(2);
    let gpu = |command: &str| Workload { gpus: 1, command: vec![command.into()], ..workload("app") };
    world.supervisor.apply(Arc::new(gpu("old")), Replicas::new(2));
    world.turn();
    world.see_all_ready();
    world.supervisor.apply(Arc::new(gpu("new")), Replicas::ZERO);
    world.turn();
    for _ in 0..4 {
        assert!((1..=2).contains(&world.alive.len()));
        assert!(world.view().endpoints.iter().any(|endpoint| endpoint.state == EndpointState::Ready));
        world.let_go();
        world.end_all_told();
        world.see_all_ready();
    }
    assert_eq!(
        world.alive.iter().map(|launch| launch.workload.command[0].as_str()).collect::<Vec<_>>(),
        ["new", "new"]
    );
    assert_eq!(world.view().ready, Replicas::new(2));
}

#[test]
fn a_program_that_ignores_its_port_runs_once() {
    let mut world = World::with(workload("app"), 1);
    let id = world.ids().remove(0);
    world.see(&id, Seen::FixedPort(8000));
    world.see(&id, Seen::Ready);
    assert_eq!(world.view().endpoints[0].address.port(), 8000);
    assert_eq!(world.trouble(), None);
    world.scale(1, 3, &[]).unwrap();
    assert_eq!(world.alive.len(), 1);
    assert_eq!(world.trouble(), Some(("FixedPort".into(), true)));
    // Its successor waits until the port is free again.
    world.supervisor.apply(Arc::new(Workload { command: vec!["new".into()], ..workload("app") }), Replicas::ZERO);
    world.turn();
    world.let_go();
    assert_eq!((world.alive.len(), world.told_to_stop.len()), (1, 1));
    world.end_all_told();
    assert_eq!(world.alive.len(), 1);
    assert_eq!(world.alive[0].workload.command, ["new"]);
}

#[test]
fn a_removed_revision_drains_and_is_forgotten() {
    let mut world = World::with(workload("app"), 3);
    let ids = world.ids();
    world.see(&ids[0], Seen::Ready);
    world.see(&ids[1], Seen::Ready);
    world.supervisor.set_drain_timeout(&app(), GRACE);
    world.supervisor.remove(&app());
    world.turn();
    assert_eq!(world.told_to_stop, [ids[2].clone()], "nobody was sent to the one that never answered");
    assert_eq!(world.draining(), ids[..2]);
    assert!(matches!(world.scale(0, 3, &[]), Err(ScaleError::Refused(_))));
    world.scale(0, 0, &ids[..1]).unwrap();
    assert_eq!(world.told_to_stop, [ids[2].clone(), ids[0].clone()], "only who is named");
    world.wait(GRACE + LET_GO_GRACE);
    assert_eq!(world.told_to_stop.len(), 3, "not for ever, if nobody says anything");
    world.end_all_told();
    assert!(world.supervisor.groups.is_empty());
    assert!(matches!(world.scale(0, 1, &[]), Err(ScaleError::NotFound(_))));
}

#[test]
fn a_revision_that_comes_back_while_it_stops_runs_again() {
    let mut world = World::with(workload("app"), 1);
    world.see_all_ready();
    world.supervisor.set_drain_timeout(&app(), GRACE);
    world.supervisor.remove(&app());
    world.turn();
    world.supervisor.apply(Arc::new(workload("app")), Replicas::ONE);
    world.turn();
    assert_eq!(world.alive.len(), 2);
    world.let_go();
    world.end_all_told();
    assert_eq!(world.alive.len(), 1);
    assert_eq!(world.alive[0].slot, 1, "the slot was not free yet");
}

#[test]
fn a_shutdown_stops_all_and_starts_nothing() {
    let mut world = World::with(workload("app"), 3);
    let ids = world.ids();
    world.see(&ids[0], crash());
    world.supervisor.stop_all();
    world.turn();
    assert_eq!(world.told_to_stop.len(), 3);
    world.supervisor.kill_all();
    world.turn();
    assert_eq!(world.killed.len(), 3, "twice kills");
    for id in world.ids() {
        world.see(&id, crash());
    }
    world.scale(3, 9, &[]).unwrap();
    assert_eq!((world.supervisor.processes(), world.alive.len()), (0, 0));
}

#[test]
fn replicas_wait_for_a_port_and_say_so() {
    let mut supervisor = Supervisor::new(Ports::new(20_000..=20_000, 0), 0, 1);
    let at = Timestamp::from_secs;
    supervisor.apply(Arc::new(workload("app")), Replicas::new(1));
    let Some(Action::Start(first)) = supervisor.next(at(0)).pop() else { panic!("a start") };
    supervisor.seen(at(1), &first.id, crash());
    assert!(supervisor.next(at(1)).is_empty());
    let trouble = supervisor.view(&app()).unwrap().trouble.unwrap();
    assert_eq!(trouble.reason, "NoFreePort");
    assert_eq!(supervisor.next_check(at(1)), Some(at(31)));
    assert_eq!(supervisor.next(at(31)).len(), 1);
}

/// What may happen in a random history.
#[derive(Debug, Clone)]
enum Step {
    Scale(u32),
    Edit(u8),
    Delete,
    Wait(u64),
    Ready(usize),
    Unready(usize),
    Exit(usize),
    PortTaken(usize),
    Unhealthy(usize),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => (0u32..8).prop_map(Step::Scale),
        1 => any::<u8>().prop_map(Step::Edit),
        1 => Just(Step::Delete),
        4 => (0u64..40_000).prop_map(Step::Wait),
        6 => any::<usize>().prop_map(Step::Ready),
        1 => any::<usize>().prop_map(Step::Unready),
        3 => any::<usize>().prop_map(Step::Exit),
        1 => any::<usize>().prop_map(Step::PortTaken),
        1 => any::<usize>().prop_map(Step::Unhealthy),
    ]
}

impl World {
    fn do_step(&mut self, step: &Step) {
        let failure = || Failure { reason: None, message: "failed".into(), permanent: false };
        let (index, seen) = match step {
            Step::Scale(to) => {
                if let Some(from) = self.supervisor.requested(&app()) {
                    let removed = self.supervisor.groups[&app()].removed;
                    let done = self.scale(from.get(), *to, &self.ids());
                    assert_eq!(done.is_ok(), !removed || *to == 0, "{done:?}");
                }
                return;
            }
            Step::Edit(version) => {
                let edited = Workload { command: vec![version.to_string()], ..workload("app") };
                self.supervisor.apply(Arc::new(edited), Replicas::ONE);
                self.turn();
                return;
            }
            Step::Delete => {
                self.supervisor.remove(&app());
                self.turn();
                return;
            }
            Step::Wait(millis) => {
                self.wait(Duration::from_millis(*millis));
                return;
            }
            Step::Ready(index) => (index, Seen::Ready),
            Step::Unready(index) => (index, Seen::Unready),
            Step::Exit(index) => (index, crash()),
            Step::PortTaken(index) => (index, Seen::PortTaken),
            Step::Unhealthy(index) => (index, Seen::Unhealthy(failure())),
        };
        if !self.alive.is_empty() {
            let id = self.alive[index % self.alive.len()].id.clone();
            self.see(&id, seen);
        }
    }

    /// What holds whatever happened.
    fn check(&self, started: &mut BTreeMap<EndpointId, Timestamp>) {
        let leaving = |id: &EndpointId| self.told_to_stop.contains(id) || self.killed.contains(id);
        let requested = self.supervisor.requested(&app()).map_or(0, Replicas::get) as usize;
        let draining = self.supervisor.view(&app()).map_or(0, |view| {
            view.endpoints.iter().filter(|endpoint| endpoint.state == EndpointState::Draining).count()
        });
        let members = self.alive.iter().filter(|launch| !leaving(&launch.id)).count() - draining;
        assert!(members <= requested + requested.div_ceil(4), "{members} run, {requested} are wanted");
        let mut ports: Vec<u16> = self.alive.iter().map(|launch| launch.port).collect();
        let mut slots: Vec<u32> = self.alive.iter().map(|launch| launch.slot).collect();
        for held in [ports.len(), slots.len()] {
            assert_eq!(held, self.alive.len());
        }
        ports.sort_unstable();
        ports.dedup();
        slots.sort_unstable();
        slots.dedup();
        assert_eq!((ports.len(), slots.len()), (self.alive.len(), self.alive.len()), "no port, no slot twice");
        for launch in &self.alive {
            started.entry(launch.id.clone()).or_insert(self.now);
        }
        assert_eq!(self.supervisor.processes(), self.alive.len());
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn whatever_happens(exclusive in any::<bool>(), steps in prop::collection::vec(step(), 1..60)) {
        let mut world = World::with(workload("app"), 2);
        let mut started = BTreeMap::new();
        for step in &steps {
            world.supervisor.set_exclusive(&app(), exclusive);
            let before = world.alive.len();
            world.do_step(step);
            world.check(&mut started);
            let requested = world.supervisor.requested(&app()).map_or(0, Replicas::get) as usize;
            prop_assert!(!exclusive || world.alive.len() <= before.max(requested), "one too many");
        }
        // Left alone, with processes that do as they are told, it comes to rest at what was asked for.
        let requested = world.supervisor.requested(&app()).map_or(0, Replicas::get) as usize;
        for _ in 0..60 {
            world.end_all_told();
            for id in std::mem::take(&mut world.killed) {
                world.see(&id, crash());
            }
            world.see_all_ready();
            world.wait(Duration::from_secs(301));
            world.check(&mut started);
        }
        world.end_all_told();
        prop_assert_eq!(world.alive.len(), requested);
        // And everything that was started can be stopped.
        world.supervisor.stop_all();
        world.turn();
        world.wait(GRACE);
        for id in world.ids() {
            prop_assert!(world.told_to_stop.contains(&id) && world.killed.contains(&id));
            world.see(&id, crash());
        }
        prop_assert_eq!(world.supervisor.processes(), 0);
    }

    #[test]
    fn nothing_is_restarted_during_its_backoff(pauses in prop::collection::vec(0u64..400_000, 1..30)) {
        let mut world = World::with(workload("app"), 1);
        let (mut crashes, mut not_before) = (0u32, world.now);
        for pause in pauses {
            if let Some(launch) = world.alive.first() {
                prop_assert!(world.now >= not_before);
                let id = launch.id.clone();
                world.see(&id, crash());
                crashes += 1;
                let wait = if crashes == 1 { 0 } else { (10 << (crashes - 2).min(10)).min(300) };
                not_before = world.now + Duration::from_secs(wait);
            }
            world.wait(Duration::from_millis(pause));
            prop_assert_eq!(world.alive.len(), usize::from(world.now >= not_before));
        }
    }
}
