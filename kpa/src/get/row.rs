//! One revision as a row, and ages as kubectl writes them.

use super::list::Shown;
use domain::WallTime;
use serde::Deserialize;

/// What the columns show of a status. Fields that are not shown are not read, so that an older program can read a newer
/// one's answer.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Row {
    pub(super) id: String,
    name: String,
    namespace: String,
    reference: String,
    targets: String,
    min_pods: u32,
    max_pods: Option<u32>,
    replicas: u32,
    age_seconds: u64,
    ready: u32,
    mode: String,
    in_flight: u32,
    queued: u32,
    reason: String,
    #[serde(default)]
    settings: Vec<Setting>,
}

/// A setting, as far as it is looked at.
#[derive(Debug, Clone, PartialEq, Deserialize)]
struct Setting {
    key: String,
    origin: Source,
}

/// Where a setting comes from: a floor with an end, or anything else.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(untagged)]
enum Source {
    Floor { floor: Until },
    Other(serde::de::IgnoredAny),
}

#[derive(Debug, Clone, PartialEq, Deserialize)]
struct Until {
    until: WallTime,
}

impl Row {
    /// Whether it goes by this name.
    pub(super) fn is(&self, name: &str) -> bool {
        self.name == name || self.id == name
    }

    /// MINPODS, and in wide rows until when a floor has raised it.
    fn min_pods(&self, wide: bool) -> String {
        let floor = self.settings.iter().find_map(|setting| match (&setting.origin, setting.key.as_str()) {
            (Source::Floor { floor }, "min-scale") => Some(floor.until),
            _ => None,
        });
        match floor.filter(|_| wide) {
            Some(until) => format!("{} (until {until:.0})", self.min_pods),
            None => self.min_pods.to_string(),
        }
    }
}

impl Shown for Row {
    fn header(wide: bool) -> Vec<&'static str> {
        let mut cells = vec!["NAME", "REFERENCE", "TARGETS", "MINPODS", "MAXPODS", "REPLICAS", "AGE"];
        if wide {
            cells.extend(["READY", "MODE", "IN-FLIGHT", "QUEUED", "REASON"]);
        }
        cells
    }

    /// kubectl writes `<unset>` for a bound that is not there.
    fn cells(&self, wide: bool) -> Vec<String> {
        let mut cells = vec![
            self.name.clone(),
            self.reference.clone(),
            self.targets.clone(),
            self.min_pods(wide),
            self.max_pods.map_or_else(|| "<unset>".to_owned(), |max| max.to_string()),
            self.replicas.to_string(),
            age(self.age_seconds),
        ];
        if wide {
            cells.extend([
                self.ready.to_string(),
                self.mode.clone(),
                self.in_flight.to_string(),
                self.queued.to_string(),
                self.reason.clone(),
            ]);
        }
        cells
    }

    fn id(&self) -> &str {
        &self.id
    }

    fn namespace(&self) -> &str {
        &self.namespace
    }

    fn ageless(&self) -> Self {
        Self { age_seconds: 0, ..self.clone() }
    }
}

/// An age as kubectl writes it (apimachinery's `duration.HumanDuration`): two units at most, the smaller one only while
/// it matters.
pub(super) fn age(seconds: u64) -> String {
    let (minutes, hours, days) = (seconds / 60, seconds / 3600, seconds / 86_400);
    let pair = |large: u64, unit: char, small: u64, subunit: char| match small {
        0 => format!("{large}{unit}"),
        small => format!("{large}{unit}{small}{subunit}"),
    };
    match (minutes, hours, days) {
        (0..2, ..) => format!("{seconds}s"),
        (2..10, ..) => pair(minutes, 'm', seconds % 60, 's'),
        (_, 0..3, _) => format!("{minutes}m"),
        (_, 3..8, _) => pair(hours, 'h', minutes % 60, 'm'),
        (_, 8..48, _) => format!("{hours}h"),
        (_, _, 2..8) => pair(days, 'd', hours % 24, 'h'),
        (_, _, 8..730) => format!("{days}d"),
        (_, _, 730..2920) => pair(days / 365, 'y', days % 365, 'd'),
        _ => format!("{}y", days / 365),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ages_are_kubectls() {
        const HOUR: u64 = 3600;
        const DAY: u64 = 24 * HOUR;
        for (seconds, text) in [
            (0, "0s"),
            (119, "119s"),
            (120, "2m"),
            (303, "5m3s"),
            (599, "9m59s"),
            (600, "10m"),
            (630, "10m"),
            (3 * HOUR - 1, "179m"),
            (3 * HOUR, "3h"),
            (3 * HOUR + 61, "3h1m"),
            (8 * HOUR - 1, "7h59m"),
            (8 * HOUR + 3599, "8h"),
            (48 * HOUR - 1, "47h"),
            (2 * DAY, "2d"),
            (2 * DAY + 5 * HOUR, "2d5h"),
            (8 * DAY - 1, "7d23h"),
            (8 * DAY + 5 * HOUR, "8d"),
            (730 * DAY - 1, "729d"),
            (730 * DAY, "2y"),
            (731 * DAY, "2y1d"),
            (2920 * DAY, "8y"),
            (2921 * DAY, "8y"),
        ] {
            assert_eq!(age(seconds), text, "{seconds} s");
        }
    }
}
