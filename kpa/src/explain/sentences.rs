//! A decision's record as sentences.
//!
//! Invariant: pure, and reads a record leniently: a field that an older or newer program does not have is a sentence less.

use domain::why::Hold;
use serde::Deserialize;
use serde_json::Value;
use std::fmt::Write as _;
use std::time::Duration;

/// What is said of a service. `row` is one of `kpa get -o json`.
pub(super) fn explain(row: &Value) -> String {
    let text = |key: &str| row[key].as_str().unwrap_or_default();
    let number = |key: &str| row[key].as_u64().unwrap_or_default();
    let mut out = format!(
        "{}: {}, {} ready, {} wanted; mode {}\n  {}\n",
        text("id"),
        crate::output::count(usize::try_from(number("replicas")).unwrap_or(usize::MAX), "replica"),
        number("ready"),
        number("wanted"),
        text("mode"),
        text("reason"),
    );
    let decision: Option<Decision> = serde_json::from_value(row["lastDecision"].clone()).ok();
    section(&mut out, "Its last decision", decision.as_ref().map(Decision::steps).unwrap_or_default());
    let mut waits = decision.as_ref().map(Decision::waits).unwrap_or_default();
    waits.extend(standing(row));
    if waits.is_empty() {
        waits.push("nothing: it follows its load".into());
    }
    section(&mut out, "What it waits for", waits);
    out
}

fn section(out: &mut String, title: &str, lines: Vec<String>) {
    if lines.is_empty() {
        return;
    }
    // Writing to a String cannot fail.
    let _ = writeln!(out, "  {title}:");
    for line in lines {
        let _ = writeln!(out, "    - {line}");
    }
}

/// Conditions that somebody should know of, and what is wrong with the settings.
fn standing(row: &Value) -> Vec<String> {
    let conditions = row["conditions"].as_array().into_iter().flatten();
    let told = conditions.filter_map(|condition| {
        let (kind, message) = (condition["type"].as_str()?, condition["message"].as_str()?);
        // kpa run says true, a cluster "True".
        let status = condition["status"].as_bool().unwrap_or_else(|| condition["status"] == "True");
        let says = match kind {
            "Ready" | "AbleToScale" | "ScalingActive" | "Coverage" | "Started" | "Replicas" | "Slots" => !status,
            _ => status,
        };
        (says && !message.is_empty()).then(|| format!("{kind}: {message}"))
    });
    let problems = row["problems"].as_array().into_iter().flatten().filter_map(|problem| match problem.as_str() {
        Some(sentence) => Some(sentence.to_owned()),
        None => Some(format!("{}: {}", problem["key"].as_str()?, problem["what"].as_str()?)),
    });
    told.chain(problems.map(|problem| format!("its settings: {problem}"))).collect()
}

/// As much of a `Why` as is said.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Decision {
    at: Duration,
    demand: Option<Demands>,
    ready: u32,
    requested: u32,
    up: u32,
    down: u32,
    stable_want: u32,
    panic_want: u32,
    window_seconds: u32,
    panic: String,
    panic_max: u32,
    delay: Option<u32>,
    desired: Option<u32>,
    min: u32,
    max: Option<u32>,
    zero_allowed: bool,
    idleness: Value,
    backlog: Option<Backlog>,
    hold: Option<String>,
    exclusive: Option<Exclusive>,
    replicas: u32,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Demands {
    stable: Demand,
    panic: Demand,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Demand {
    signal: String,
    reading: f64,
    total: f64,
    utilization: f64,
    wanted: u32,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Backlog {
    load: u32,
    target: f64,
    replicas: u32,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Exclusive {
    wanted: u32,
    at_most: u32,
}

impl Demand {
    fn sentence(&self) -> String {
        let Self { reading, total, utilization, wanted, .. } = self;
        let what = match self.signal.as_str() {
            "rps" => "requests a second",
            "concurrency" => "requests in flight",
            other => other,
        };
        // A sum that has gone up and down again may be a rounding error below zero.
        let reading = (reading * 10.0).round() / 10.0 + 0.0;
        format!("{reading:.1} {what} on average, {total} x {utilization:.2} for one replica: {wanted}")
    }
}

impl Decision {
    /// The arithmetic, in the order of its steps.
    fn steps(&self) -> Vec<String> {
        let mut steps = Vec::new();
        match &self.demand {
            Some(demand) => {
                steps.push(format!("stable window of {} s: {}", self.window_seconds, demand.stable.sentence()));
                steps.push(format!("panic window: {}", demand.panic.sentence()));
                let limits = format!("with {} ready one step may go to {} to {}", self.ready, self.down, self.up);
                steps.push(format!("{limits}: {} stable, {} panic", self.stable_want, self.panic_want));
            }
            None => steps.push("nothing has been measured yet".into()),
        }
        if matches!(self.panic.as_str(), "entered" | "extended" | "continued") {
            steps.push(format!("it panics, so nothing falls below {}", self.panic_max));
        }
        if let Some(delay) = self.delay {
            steps.push(format!("scale-down-delay still holds {delay}"));
        }
        if let Some(desired) = self.desired {
            steps.push(format!("so the windows ask for {desired}"));
        }
        let most = self.max.map_or_else(|| "no upper bound".to_owned(), |max| format!("at most {max}"));
        let zero = if self.zero_allowed { "" } else { ", and never zero" };
        steps.push(format!("bounds: at least {}, {most}{zero}", self.min));
        let idleness = self.idleness.as_str().or_else(|| self.idleness.as_object()?.keys().next().map(String::as_str));
        match idleness {
            Some("failed") => steps.push("its start failed, so it goes back to its lower bound".into()),
            Some("starting") => steps.push("it is starting: no replica leaves before one was ready".into()),
            Some("young" | "retained") if self.desired == Some(0) => {
                steps.push("its last replica does not leave yet".into());
            }
            Some(_) | None => {}
        }
        if let Some(Backlog { load, target, replicas }) = &self.backlog {
            steps.push(format!("the newest load, {load} / {target:.1}, asks for at least {replicas}"));
        }
        if let Some(hold) = &self.hold {
            steps.push(held(hold, self.requested));
        }
        if let Some(Exclusive { wanted, at_most }) = &self.exclusive {
            steps.push(format!("its exclusive group leaves it {at_most} of {wanted}"));
        }
        steps.push(format!("decision: {}", self.replicas));
        steps
    }

    /// What the next step waits for.
    fn waits(&self) -> Vec<String> {
        let left = |name: &str| {
            let until: Duration = serde_json::from_value(self.idleness[name]["until"].clone()).ok()?;
            Some(format!("{:.1} s", until.saturating_sub(self.at).as_secs_f64()))
        };
        let mut waits = Vec::new();
        if self.replicas > self.requested {
            waits.push(format!("the platform is to show {} in place of {}", self.replicas, self.requested));
        }
        if self.replicas < self.requested {
            waits.push(format!("{} of its replicas are to finish what they have", self.requested - self.replicas));
        }
        match self.idleness.as_str() {
            Some("asleep") if self.replicas == 0 => waits.push("a request, which wakes it".into()),
            Some("starting") => waits.push("its first replica is to become ready".into()),
            Some(_) | None => {}
        }
        if self.desired == Some(0)
            && let Some(left) = left("young")
        {
            waits.push(format!("its last replica is young: it stays for another {left} after that decision"));
        }
        if let Some(left) = left("retained") {
            waits.push(format!("its last replica leaves {left} after that decision, unless a request comes"));
        }
        if let Some(left) = left("failed") {
            waits.push(format!("its start failed: the next may be tried {left} after that decision"));
        }
        waits
    }
}

/// Why it keeps what it has.
fn held(hold: &str, requested: u32) -> String {
    let known = Hold::ALL.into_iter().find(|known| serde_json::to_value(known).is_ok_and(|name| name == hold));
    match known {
        Some(Hold::WrittenByHand) => format!("somebody else wrote {requested}: it is left alone"),
        _ => format!("it does not fall below {requested}: {}", known.as_ref().map_or(hold, |known| known.as_str())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn row(decision: Value) -> Value {
        json!({
            "id": "default/model", "name": "model", "replicas": 3, "ready": 2, "wanted": 3, "mode": "stable",
            "reason": "stable 15.0 / (10 x 0.70) -> 3", "lastDecision": decision,
            "conditions": [
                {"type": "Ready", "status": true, "message": "2 of 3 replicas are ready"},
                {"type": "AbleToScale", "status": "False", "message": "refused"},
                {"type": "TrafficNotSeen", "status": "True", "message": "no request ever came"},
            ],
            "problems": ["Deployment default/model: min-scale: \"two\" is not a number"],
        })
    }

    #[test]
    fn the_arithmetic_is_told_in_its_order_and_then_what_it_waits_for() {
        let demand = |wanted: u32| json!({"signal": "concurrency", "reading": 15.04, "total": 10.0, "utilization": 0.7, "wanted": wanted});
        let text = explain(&row(json!({
            "at": {"secs": 62, "nanos": 0}, "demand": {"stable": demand(3), "panic": demand(3)}, "ready": 2,
            "requested": 3, "up": 2000, "down": 1, "stableWant": 3, "panicWant": 3, "windowSeconds": 60,
            "panic": "calm", "desired": 3, "min": 0, "max": 10, "zeroAllowed": true, "idleness": "spent",
            "hold": "warmingUp", "replicas": 3, "of a later release": {"x": 1},
        })));
        let expected = "\
default/model: 3 replicas, 2 ready, 3 wanted; mode stable
  stable 15.0 / (10 x 0.70) -> 3
  Its last decision:
    - stable window of 60 s: 15.0 requests in flight on average, 10 x 0.70 for one replica: 3
    - panic window: 15.0 requests in flight on average, 10 x 0.70 for one replica: 3
    - with 2 ready one step may go to 1 to 2000: 3 stable, 3 panic
    - so the windows ask for 3
    - bounds: at least 0, at most 10
    - it does not fall below 3: the data does not cover a stable window yet
    - decision: 3
  What it waits for:
    - AbleToScale: refused
    - TrafficNotSeen: no request ever came
    - its settings: Deployment default/model: min-scale: \"two\" is not a number
";
        assert_eq!(text, expected);
    }

    #[test]
    fn what_keeps_the_last_replica_is_told_with_its_time() {
        let waits = |idleness: Value| {
            let decision = json!({
                "at": {"secs": 60, "nanos": 0}, "requested": 1, "replicas": 1, "desired": 0, "idleness": idleness,
            });
            let decision: Decision = serde_json::from_value(decision).unwrap();
            decision.waits().join("; ")
        };
        let until = json!({"until": {"secs": 65, "nanos": 500_000_000}});
        assert!(waits(json!({"retained": until})).contains("leaves 5.5 s after that decision"));
        assert!(waits(json!({"young": until})).contains("stays for another 5.5 s"));
        assert!(waits(json!({"failed": until})).contains("may be tried 5.5 s after"));
        let failed = json!({"idleness": {"failed": {"until": {"secs": 65, "nanos": 0}}}});
        let failed: Decision = serde_json::from_value(failed).unwrap();
        assert!(failed.steps().iter().any(|step| step.contains("back to its lower bound")), "{:?}", failed.steps());
        assert!(waits(json!("starting")).contains("become ready"));
        assert_eq!(waits(json!("spent")), "");
    }

    /// What nobody here has ever written is passed over.
    #[test]
    fn a_record_that_is_not_understood_costs_sentences_only() {
        for decision in [json!(null), json!("x"), json!({"replicas": "many"}), json!({"idleness": {"new": 1}})] {
            let text = explain(&row(decision));
            assert!(text.contains("default/model: 3 replicas") && text.contains("AbleToScale"), "{text}");
        }
        assert!(explain(&json!({"id": "a/b"})).contains("nothing: it follows its load"));
    }
}
