//! The decision from its description alone (knative-behaviour 6), on whole integers and plain lists.

/// Settings as bare numbers.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Settings {
    pub(crate) target: f64,
    pub(crate) up: f64,
    pub(crate) down: f64,
    pub(crate) threshold: f64,
    pub(crate) window: i64,
    pub(crate) delay: i64,
    pub(crate) activation: i64,
}

/// The decider as a table of everything it ever decided.
#[derive(Debug, Clone)]
pub(crate) struct Naive {
    pub(crate) settings: Settings,
    panic_since: Option<i64>,
    panic_max: i64,
    decided: Vec<(i64, i64)>,
}

impl Naive {
    pub(crate) fn new(settings: Settings, now: i64, ready: i64) -> Self {
        Self { settings, panic_since: (ready > 1).then_some(now), panic_max: ready, decided: Vec::new() }
    }

    pub(crate) fn decide(&mut self, now: i64, stable: f64, panic: f64, ready: i64) -> i64 {
        let Settings { target, up, down, threshold, window, delay, activation } = self.settings;
        let pods = ready.max(1) as f64;
        let highest = (up * pods).ceil().min(2_147_483_647.0);
        let lowest = (pods / down).floor();
        let (ds, dp) = ((stable / target).ceil(), (panic / target).ceil());
        let clamp = |wanted: f64| wanted.max(lowest).min(highest) as i64;
        let (mut stable_want, mut panic_want) = (clamp(ds), clamp(dp));
        if activation > 1 {
            if ds > 0.0 && activation > stable_want {
                stable_want = activation;
            }
            if dp > 0.0 && activation > panic_want {
                panic_want = activation;
            }
        }
        if dp / pods >= threshold {
            self.panic_since = Some(now);
        } else if self.panic_since.is_some_and(|since| since + window < now) {
            self.panic_since = None;
            self.panic_max = 0;
        }
        let desired = if self.panic_since.is_some() {
            self.panic_max = self.panic_max.max(stable_want).max(panic_want);
            self.panic_max
        } else {
            stable_want
        };
        self.decided.push((now, desired));
        if delay == 0 {
            return desired;
        }
        let slots = (delay + 1) / 2;
        let recent = self.decided.iter().filter(|(at, _)| at / 2 > now / 2 - slots);
        recent.map(|(_, desired)| *desired).max().unwrap_or(desired)
    }
}
