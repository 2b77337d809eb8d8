use super::*;
use proptest::prelude::*;

fn at(millis: u64) -> Timestamp {
    Timestamp::from_millis(millis)
}

fn id(name: &str) -> RevisionId {
    RevisionId::new("default", name)
}

fn group() -> GroupId {
    GroupId { namespace: "default".into(), name: "gpu".into() }
}

/// A member at zero with nothing to do.
fn asleep(name: &str) -> Member {
    Member {
        id: id(name),
        wanted: Replicas::ZERO,
        minimum: Replicas::ZERO,
        asked: Replicas::ZERO,
        raising: false,
        listed: Replicas::ZERO,
        terminating: Replicas::ZERO,
        in_flight: 0,
        queued: 0,
        last_active: None,
        life: Life::Idle,
        may_grow: true,
        may_shrink: true,
        slots: Replicas::ONE,
        residence: Duration::from_secs(30),
    }
}

/// At zero, with a request that waits.
fn waiting(name: &str) -> Member {
    Member { wanted: Replicas::ONE, queued: 1, ..asleep(name) }
}

/// One replica, ready since `since`; busy since ever.
fn busy(name: &str, since: u64) -> Member {
    let (one, life) = (Replicas::ONE, Life::Ready { since: at(since) });
    Member { wanted: one, asked: one, listed: one, in_flight: 1, last_active: Some(at(since)), life, ..asleep(name) }
}

/// One replica, kept by retention or min-scale, without a request since `last`.
fn idle(name: &str, since: u64, last: u64) -> Member {
    Member { in_flight: 0, last_active: Some(at(last)), ..busy(name, since) }
}

fn with_slots(slots: u32, members: &[Member]) -> Vec<Member> {
    members.iter().map(|member| Member { slots: Replicas::new(slots), ..member.clone() }).collect()
}

/// What each may have, and who makes room.
#[track_caller]
fn check(arbiter: &mut Arbiter, now: u64, members: &[Member], at_most: &[u32], room: &[&str]) -> Vec<Share> {
    let shares = arbiter.arbitrate(at(now), &group(), members);
    let given: Vec<u32> = shares.iter().map(|share| share.at_most.get()).collect();
    let makes_room = |(_, share): &(&Member, &Share)| matches!(share.standing, Standing::MakesRoom { .. });
    let leaving: Vec<&str> =
        members.iter().zip(&shares).filter(makes_room).map(|(member, _)| member.id.name()).collect();
    assert_eq!((given.as_slice(), leaving.as_slice()), (at_most, room), "{shares:#?}");
    shares
}

#[test]
fn a_free_slot_goes_to_who_waits_and_no_second_one_does() {
    let arbiter = &mut Arbiter::default();
    check(arbiter, 0, &[asleep("a"), asleep("b")], &[0, 0], &[]);
    check(arbiter, 0, &[waiting("a"), asleep("b")], &[1, 0], &[]);
    let shares = check(arbiter, 0, &[waiting("a"), waiting("b")], &[1, 0], &[]);
    assert_eq!(shares[1].to_string(), "waits for a slot of group gpu");
    let ordered = Member { asked: Replicas::ONE, raising: true, life: Life::Starting, ..waiting("a") };
    check(arbiter, 10, &[ordered, waiting("b")], &[1, 0], &[]);
}

#[test]
fn the_longest_idle_one_makes_room_and_both_say_so() {
    let members = with_slots(2, &[idle("a", 0, 50_000), idle("b", 0, 40_000), waiting("c")]);
    let shares = check(&mut Arbiter::default(), 60_000, &members, &[1, 0, 0], &["b"]);
    assert_eq!(shares[1].to_string(), "makes room in group gpu for default/c");
    assert_eq!(shares[2].to_string(), "waits for a slot of group gpu, held by default/a, default/b");
}

#[test]
fn nobody_makes_room_for_growth_or_a_minimum() {
    let growing = Member { wanted: Replicas::new(3), queued: 5, ..busy("a", 0) };
    let minimum = Member { wanted: Replicas::ONE, minimum: Replicas::ONE, ..asleep("c") };
    let members = [growing, idle("b", 0, 0), minimum.clone()];
    check(&mut Arbiter::default(), 600_000, &with_slots(2, &members), &[1, 1, 0], &[]);
    // A free slot may grow it; requests that wait go before it.
    check(&mut Arbiter::default(), 600_000, &with_slots(3, &members), &[2, 1, 0], &[]);
    let claim = Member { queued: 1, ..minimum };
    check(&mut Arbiter::default(), 600_000, &with_slots(3, &[members[0].clone(), claim]), &[2, 1], &[]);
}

#[test]
fn what_one_at_zero_had_before_is_no_reason_to_start_it() {
    let average = Member { wanted: Replicas::new(2), ..asleep("a") };
    let shares = check(&mut Arbiter::default(), 0, &with_slots(3, std::slice::from_ref(&average)), &[0], &[]);
    assert_eq!(shares[0].standing, Standing::Settled);
    let shares =
        check(&mut Arbiter::default(), 0, &[busy("b", 0), Member { minimum: Replicas::ONE, ..average }], &[1, 0], &[]);
    assert_eq!(shares[1].standing, Standing::Waits { held_by: [id("b")].into() });
}

#[test]
fn who_has_work_stays_for_its_residence() {
    let arbiter = &mut Arbiter::default();
    check(arbiter, 39_999, &[busy("a", 10_000), waiting("b")], &[1, 0], &[]);
    check(arbiter, 40_000, &[busy("a", 10_000), waiting("b")], &[0, 0], &["a"]);
    // New requests of the one that leaves are held and wait behind.
    let held = Member { queued: 3, ..busy("a", 10_000) };
    check(arbiter, 41_000, &[held, waiting("b")], &[0, 0], &["a"]);
    let gone = Member { terminating: Replicas::ONE, ..waiting("a") };
    check(arbiter, 42_000, &[gone.clone(), waiting("b")], &[0, 0], &[]);
    let free = Member { terminating: Replicas::ZERO, ..gone };
    check(arbiter, 43_000, &[free, waiting("b")], &[0, 1], &[]);
}

#[test]
fn one_without_requests_leaves_before_its_residence_once_it_is_idle_for_two_seconds() {
    let arbiter = &mut Arbiter::default();
    check(arbiter, 3_999, &[idle("a", 0, 2_000), waiting("b")], &[1, 0], &[]);
    check(arbiter, 4_000, &[idle("a", 0, 2_000), waiting("b")], &[0, 0], &["a"]);
    // A request that comes to it meanwhile takes that back: its residence is not over.
    let back = Member { queued: 1, ..idle("a", 0, 4_100) };
    check(arbiter, 4_100, &[back, waiting("b")], &[1, 0], &[]);
    // After its residence every pause will do.
    check(arbiter, 30_000, &[idle("a", 0, 29_999), waiting("b")], &[0, 0], &["a"]);
}

#[test]
fn a_start_is_not_thrown_away_until_it_has_failed() {
    let one = Replicas::ONE;
    let starting = Member { life: Life::Starting, ..idle("a", 0, 0) };
    check(&mut Arbiter::default(), 900_000, &[starting.clone(), waiting("b")], &[1, 0], &[]);
    // Its min-scale would keep it.
    let failed = Member { life: Life::Idle, wanted: one, ..starting };
    check(&mut Arbiter::default(), 900_000, &[failed, waiting("b")], &[0, 0], &["a"]);
}

#[test]
fn what_is_not_known_or_not_ours_is_not_taken() {
    let blind = Member { may_shrink: false, ..idle("a", 0, 0) };
    check(&mut Arbiter::default(), 900_000, &[blind, waiting("b")], &[1, 0], &[]);
    let raised = Member { raising: true, ..idle("a", 0, 0) };
    check(&mut Arbiter::default(), 900_000, &[raised, waiting("b")], &[1, 0], &[]);
}

#[test]
fn a_surplus_replica_goes_before_anybodys_only_one_and_after_the_idle() {
    let two =
        Member { wanted: Replicas::new(2), asked: Replicas::new(2), listed: Replicas::new(2), ..busy("a", 9_000) };
    let members = with_slots(3, &[two.clone(), busy("b", 0), waiting("c")]);
    check(&mut Arbiter::default(), 10_000, &members, &[1, 1, 0], &["a"]);
    let members = with_slots(3, &[two, idle("b", 0, 0), waiting("c")]);
    check(&mut Arbiter::default(), 10_000, &members, &[2, 0, 0], &["b"]);
}

#[test]
fn who_makes_room_stays_the_one_unless_somebody_is_idle() {
    let arbiter = &mut Arbiter::default();
    let members = |b: Member| with_slots(2, &[busy("a", 1_000), b, waiting("c")]);
    check(arbiter, 100_000, &members(busy("b", 500)), &[1, 0, 0], &["b"]);
    // It was longer resident by its own restart, say; a drain that has begun goes on.
    check(arbiter, 100_100, &members(busy("b", 2_000)), &[1, 0, 0], &["b"]);
    let idle_now = with_slots(2, &[idle("a", 1_000, 2_000), busy("b", 500), waiting("c")]);
    check(arbiter, 100_200, &idle_now, &[0, 1, 0], &["a"]);
}

#[test]
fn what_leaves_anyway_is_waited_for() {
    let leaves = Member { wanted: Replicas::ZERO, ..idle("a", 0, 0) };
    let members = with_slots(2, &[leaves, busy("b", 0), waiting("c")]);
    check(&mut Arbiter::default(), 900_000, &members, &[1, 1, 0], &[]);
    let ending = Member { terminating: Replicas::ONE, ..asleep("a") };
    let members = with_slots(2, &[ending, busy("b", 0), waiting("c")]);
    check(&mut Arbiter::default(), 900_000, &members, &[0, 1, 0], &[]);
}

#[test]
fn a_client_that_tries_again_keeps_its_place_and_whom_it_made_leave() {
    let arbiter = &mut Arbiter::default();
    let holds = busy("x", 0);
    let between = Member { queued: 0, ..waiting("a") };
    check(arbiter, 1_000, &[holds.clone(), waiting("a"), asleep("b")], &[1, 0, 0], &[]);
    check(arbiter, 2_000, &[holds.clone(), between.clone(), waiting("b")], &[1, 0, 0], &[]);
    check(arbiter, 2_900, &[asleep("x"), waiting("a"), waiting("b")], &[0, 1, 0], &[]);
    check(arbiter, 3_000, &[holds.clone(), between.clone(), waiting("b")], &[1, 0, 0], &[]);
    check(arbiter, 5_000, &[holds, between, waiting("b")], &[1, 0, 0], &[]);
    check(arbiter, 5_100, &[asleep("x"), waiting("a"), waiting("b")], &[0, 0, 1], &[]);

    let arbiter = &mut Arbiter::default();
    check(arbiter, 9_000, &[idle("x", 0, 0), waiting("a")], &[0, 0], &["x"]);
    let between = Member { queued: 0, ..waiting("a") };
    check(arbiter, 10_999, &[idle("x", 0, 0), between.clone()], &[0, 0], &["x"]);
    check(arbiter, 11_000, &[idle("x", 0, 0), between], &[1, 0], &[]);
}

#[test]
fn the_smallest_number_of_slots_counts_and_what_is_too_much_goes() {
    let more = Member { slots: Replicas::new(5), ..idle("a", 0, 0) };
    let members = [more, busy("b", 890_000), idle("c", 0, 880_000)];
    let shares = check(&mut Arbiter::default(), 900_000, &members, &[0, 1, 0], &["a", "c"]);
    assert_eq!(shares[0].to_string(), "makes room in group gpu: more is in use than its 1 slots");
    assert_eq!(shares[0].slots, Replicas::ONE);
}

#[test]
fn a_member_of_one_group_is_in_no_other() {
    let mut groups = Groups::default();
    let revision = |name: &str, group: Option<&str>| {
        let mut spec = crate::testing::spec(1.0);
        spec.exclusive_group = domain::Resolved::default_value(group.map(ToOwned::to_owned));
        crate::testing::revision(name, spec)
    };
    groups.follow(&revision("a", Some("gpu")));
    groups.follow(&revision("b", Some("gpu")));
    groups.follow(&revision("c", None));
    assert_eq!(groups.of(&id("a")), Some(&group()));
    assert_eq!(groups.of(&id("c")), None);
    let facts = |id: &RevisionId| Some(asleep(id.name()));
    assert_eq!(groups.arbitrate(at(0), &group(), facts).len(), 2);
    groups.follow(&revision("a", Some("other")));
    assert_eq!(groups.arbitrate(at(0), &group(), facts).len(), 1);
    assert_eq!(groups.forget(&id("b")), Some(group()));
    assert!(groups.arbitrate(at(0), &group(), facts).is_empty(), "a group without members is gone");
}

/// A model of the machine: each replica takes a while to start, to finish what it has and to end.
struct Machine {
    slots: u32,
    residence: u64,
    start: u64,
    work: u64,
    stop: u64,
    now: u64,
    /// When somebody last waited.
    waited: u64,
    arbiter: Arbiter,
    services: Vec<Service>,
}

#[derive(Clone, Default)]
struct Service {
    /// Whether its client sends one request after the other.
    client: bool,
    asked: u32,
    ready_at: Option<u64>,
    /// When the running request is answered.
    busy_until: Option<u64>,
    queued: bool,
    waits_since: Option<u64>,
    last_active: Option<u64>,
    gone_at: Vec<u64>,
}

const STEP: u64 = 100;

impl Machine {
    fn member(&self, index: usize) -> Member {
        let service = &self.services[index];
        let ready = service.ready_at.filter(|at| *at <= self.now && service.asked > 0);
        Member {
            wanted: Replicas::new(u32::from(service.client || service.asked > 0)),
            asked: Replicas::new(service.asked),
            listed: Replicas::new(service.asked),
            terminating: Replicas::new(u32::try_from(service.gone_at.len()).unwrap()),
            in_flight: u32::from(service.busy_until.is_some()),
            queued: u32::from(service.queued),
            last_active: service.last_active.map(at),
            life: match ready {
                Some(since) => Life::Ready { since: at(since) },
                None if service.asked > 0 => Life::Starting,
                None => Life::Idle,
            },
            slots: Replicas::new(self.slots),
            residence: Duration::from_millis(self.residence),
            ..asleep(&format!("m{index}"))
        }
    }

    /// Longest wait: each in front has a residence, then its drain and stop; then a start.
    fn bound(&self) -> u64 {
        let turn = self.residence + IDLE_FOR.as_millis() as u64 + self.work + self.stop + self.start + 4 * STEP;
        turn * self.services.len() as u64
    }

    /// One step of time; checks what must always hold.
    fn step(&mut self) -> Result<(), TestCaseError> {
        let now = self.now;
        for service in &mut self.services {
            service.gone_at.retain(|gone| *gone > now);
            if service.busy_until.is_some_and(|until| until <= now) {
                service.busy_until = None;
            }
            service.queued |= service.client && service.busy_until.is_none();
            if service.queued || service.busy_until.is_some() {
                service.last_active = Some(now);
            }
        }
        let members: Vec<Member> = (0..self.services.len()).map(|index| self.member(index)).collect();
        if members.iter().any(|member| member.lacks() && member.queued > 0) {
            self.waited = now;
        }
        let shares = self.arbiter.arbitrate(at(now), &group(), &members);
        for (index, (share, member)) in shares.iter().zip(&members).enumerate() {
            let leaves = matches!(share.standing, Standing::MakesRoom { .. });
            if leaves {
                prop_assert!(at(now).since(at(self.waited)) < CLAIM_KEPT, "nobody waits for it");
                prop_assert!(member.life != Life::Starting, "it was starting");
                let has_work = member.in_flight + member.queued > 0;
                prop_assert!(!has_work || member.resided(at(now)), "it had work and its residence was not over");
            }
            let service = &mut self.services[index];
            if share.at_most.get() > service.asked && member.wanted.get() > service.asked {
                prop_assert_eq!(service.asked, 0);
                (service.asked, service.ready_at) = (1, Some(now + self.start));
            } else if leaves && service.busy_until.is_none() {
                (service.asked, service.ready_at) = (0, None);
                service.gone_at.push(now + self.stop);
            }
            let serves = service.ready_at.is_some_and(|ready| ready <= now) && !leaves;
            if serves && service.queued && service.busy_until.is_none() {
                (service.queued, service.busy_until) = (false, Some(now + self.work));
            }
        }
        let used: usize = self.services.iter().map(|service| service.asked as usize + service.gone_at.len()).sum();
        prop_assert!(used <= self.slots as usize, "{} slots in use", used);
        let bound = self.bound();
        for service in &mut self.services {
            let unserved = service.queued && service.busy_until.is_none();
            service.waits_since = if unserved { service.waits_since.or(Some(now)) } else { None };
            prop_assert!(service.waits_since.is_none_or(|since| now - since <= bound), "somebody starves");
        }
        self.now += STEP;
        Ok(())
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// However clients come and go: never more in use than there are slots, no eviction for nothing or of one that has
    /// work before its time, and everybody has its turn.
    #[test]
    fn slots_are_never_exceeded_and_everybody_has_a_turn(
        (slots, count) in (1_u32..4, 1_usize..7),
        (residence, start, work, stop) in (1_000_u64..8_000, 0_u64..5_000, 0_u64..3_000, 0_u64..3_000),
        toggles in proptest::collection::vec((0_usize..7, 0_u64..80), 1..60),
    ) {
        let services = vec![Service::default(); count];
        let arbiter = Arbiter::default();
        let mut machine = Machine { slots, residence, start, work, stop, now: 0, waited: 0, arbiter, services };
        for (who, steps) in toggles {
            let service = &mut machine.services[who % count];
            service.client = !service.client;
            // A client that leaves takes its waiting request with it.
            service.queued &= service.client;
            for _ in 0..steps {
                machine.step()?;
            }
        }
        machine.services.iter_mut().for_each(|service| service.client = true);
        for _ in 0..=machine.bound() / STEP {
            machine.step()?;
        }
    }

    /// A member alone is limited by the number of slots and by nothing else.
    #[test]
    fn a_member_alone_has_what_it_wants(wanted in 0_u32..6, asked in 0_u32..6, queued in 1_u32..3, slots in 6_u32..9) {
        let (wanted, asked) = (Replicas::new(wanted), Replicas::new(asked));
        let member = Member { wanted, asked, listed: asked, queued, slots: Replicas::new(slots), ..asleep("a") };
        let shares = Arbiter::default().arbitrate(at(0), &group(), std::slice::from_ref(&member));
        prop_assert_eq!(wanted.min(shares[0].at_most), wanted);
        prop_assert_eq!(&shares[0].standing, &Standing::Settled);
    }
}
