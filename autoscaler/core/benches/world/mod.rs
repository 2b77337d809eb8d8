//! A brain over many revisions, to which two activators report each second, in virtual time. Shared with `measure/`.

pub(crate) mod told;

use autoscaler_core::{Brain, BrainSettings, Command, Event, FrameChunk};
use domain::{Change, ReporterId, Timestamp};
use told::{default_revision, frame, id, listed};

/// Seconds that pass before anything is measured.
const WARM_UP: u64 = 5;
/// From the start of a second until its frames are there.
const FRAMES_AFTER_MS: u64 = 40;
/// Length of a slot.
const SLOT_MS: u64 = 100;

/// A brain that leads, and what is around it.
#[derive(Debug)]
pub(crate) struct World {
    brain: Brain,
    reporters: [ReporterId; 2],
    active: u32,
    made: u64,
    commands: Vec<Command>,
}

/// What arrives within one second: the frames of both activators.
#[derive(Debug)]
pub(crate) struct Second {
    number: u64,
    chunks: Vec<FrameChunk>,
}

impl World {
    /// `revisions` of them with the defaults, of which the first `active` have one replica and requests in flight for ever;
    /// the others are asleep.
    pub(crate) fn new(revisions: u32, active: u32) -> Self {
        let mut world = Self {
            brain: Brain::new(Timestamp::ZERO, BrainSettings::default()),
            reporters: [ReporterId::new("activator-a"), ReporterId::new("activator-b")],
            active,
            made: 0,
            commands: Vec::new(),
        };
        world.event(0, Event::Leadership(true));
        let settings = default_revision(id(0));
        for n in 0..revisions {
            for change in listed(&settings, n, n < active) {
                world.event(0, Event::Change(change));
            }
        }
        let reporters = world.reporters.to_vec();
        world.event(0, Event::Change(Change::Activators(reporters)));
        world.event(0, Event::Change(Change::Synced));
        for _ in 0..WARM_UP {
            let second = world.next_second();
            world.pass(second);
        }
        assert_eq!(world.brain.awake(), active as usize, "only those with requests are awake");
        assert_eq!((world.brain.refused_frames(), world.scale_calls()), (0, 0), "nothing is to be done");
        world
    }

    /// Makes what arrives in the next second; each is to be passed once, in order.
    pub(crate) fn next_second(&mut self) -> Second {
        self.made += 1;
        let chunks =
            self.reporters.iter().flat_map(|reporter| FrameChunk::split(frame(reporter, self.made, self.active)));
        Second { number: self.made, chunks: chunks.collect() }
    }

    /// One second of the brain's life: both frames with their answers, and ten slots.
    pub(crate) fn pass(&mut self, second: Second) {
        let start = second.number * 1000;
        self.event(start, Event::Tick);
        for chunk in second.chunks {
            let last = chunk.last.then(|| chunk.header.reporter.clone());
            self.event(start + FRAMES_AFTER_MS, Event::Frame(chunk));
            if let Some(reporter) = last {
                drop(self.brain.ack(Timestamp::from_millis(start + FRAMES_AFTER_MS), &reporter));
            }
        }
        for slot in 1..10 {
            self.event(start + slot * SLOT_MS, Event::Tick);
        }
    }

    /// Every call that was asked for since the start: none, because the load never changes.
    pub(crate) fn scale_calls(&self) -> usize {
        self.commands.iter().filter(|command| matches!(command, Command::Scale { .. })).count()
    }

    fn event(&mut self, millis: u64, event: Event) {
        self.brain.handle(Timestamp::from_millis(millis), event, &mut self.commands);
    }
}
