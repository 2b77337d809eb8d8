//! The result as a picture: a bar for each proxy in each scenario, CPU per request against that of the better peer.
//!
//! Invariant: the bars show the medians that the table prints; a bar that would leave the picture is cut, its number is not.

use super::proxy::Peer;
use super::report::{Outcome, Suite};
use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, Pos, VPos};
use std::path::Path;

const WIDTH: u32 = 820;
/// Height of one bar.
const BAR: i32 = 13;
/// Between two scenarios.
const GAP: i32 = 10;
/// For the names of scenarios.
const LEFT: i32 = 110;
/// For the title and the legend.
const TOP: i32 = 56;
/// How far bars go, as a multiple of the better peer.
const LONGEST: f64 = 4.0;

const fn colour(peer: Peer) -> RGBColor {
    match peer {
        Peer::Activator => RGBColor(31, 119, 180),
        Peer::Nginx => RGBColor(44, 160, 44),
        Peer::Haproxy => RGBColor(255, 127, 14),
        Peer::Envoy => RGBColor(148, 103, 189),
    }
}

/// Draws `suite` into the SVG `file`.
pub(super) fn draw(suite: &Suite, file: &Path) -> anyhow::Result<()> {
    let rows: usize = suite.scenarios.iter().map(|outcome| outcome.proxies.len()).sum();
    let height = TOP + BAR * i32::try_from(rows)? + (GAP + 2) * i32::try_from(suite.scenarios.len())? + GAP;
    let area = SVGBackend::new(file, (WIDTH, height.unsigned_abs())).into_drawing_area();
    area.fill(&WHITE)?;
    let font = |size: i32| ("sans-serif", size).into_font().color(&BLACK);
    let title = "CPU time per request, as a multiple of the better peer (shorter is better)";
    area.draw(&Text::new(title, (GAP, 10), font(16)))?;
    for (number, peer) in (0..).zip(Peer::ALL) {
        let left = LEFT + number * 120;
        area.draw(&Rectangle::new([(left, 34), (left + 10, 44)], colour(*peer).filled()))?;
        area.draw(&Text::new(peer.to_string(), (left + 16, 34), font(12)))?;
    }
    let scale = f64::from(WIDTH.cast_signed() - LEFT - 60) / LONGEST;
    let one = LEFT + (scale as i32);
    area.draw(&PathElement::new([(one, TOP - 4), (one, height - GAP)], BLACK.mix(0.4)))?;
    let mut top = TOP;
    for outcome in &suite.scenarios {
        let right = Pos::new(HPos::Right, VPos::Top);
        area.draw(&Text::new(outcome.scenario.name(), (LEFT - 8, top), font(13).pos(right)))?;
        for (peer, multiple) in multiples(outcome) {
            let end = LEFT + (multiple.min(LONGEST) * scale) as i32;
            area.draw(&Rectangle::new([(LEFT, top), (end, top + BAR - 2)], colour(peer).filled()))?;
            area.draw(&Text::new(format!("{multiple:.2}"), (end + 4, top), font(11)))?;
            top += BAR;
        }
        top += GAP + 2;
    }
    area.present()?;
    Ok(())
}

/// Of each proxy, its CPU per request against that of the better peer; against its own where there is no peer.
fn multiples(outcome: &Outcome) -> Vec<(Peer, f64)> {
    let micros =
        |peer| outcome.proxies.iter().find(|line| line.proxy == peer).map(|line| line.cpu_micros_per_request.median);
    let one = micros(outcome.ratio.as_ref().map_or(Peer::Activator, |ratio| ratio.to)).unwrap_or(1.0);
    outcome.proxies.iter().map(|line| (line.proxy, line.cpu_micros_per_request.median / one)).collect()
}

#[cfg(test)]
mod tests {
    use super::super::generator::Seen;
    use super::super::report::Round;
    use super::super::scenario::Scenario;
    use super::*;
    use std::time::Duration;

    #[test]
    fn every_proxy_has_a_bar_with_its_multiple() {
        let round = |peer, micros| Round {
            number: 0,
            peer,
            cpu: Duration::from_micros(micros),
            load_cpu: Duration::ZERO,
            rss_bytes: 0,
            seen: Seen { count: 1, elapsed: Duration::from_secs(1), ..Seen::default() },
        };
        let rounds = [round(Peer::Activator, 21), round(Peer::Nginx, 20), round(Peer::Envoy, 120)];
        let suite = Suite::new(1, 1.0, vec![Outcome::new(Scenario::Small, &rounds)]);
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("peers.svg");
        draw(&suite, &file).unwrap();
        let svg = std::fs::read_to_string(file).unwrap();
        assert!(["1.05", "1.00", "6.00", "small", "envoy"].iter().all(|text| svg.contains(text)), "{svg}");
    }
}
