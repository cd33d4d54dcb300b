//! The report's graphs: plain SVG text, the same bytes for the same figures.

use super::model::{ActReport, SeriesKind, SeriesReport};
use std::fmt::Write as _;

const WIDTH: f64 = 900.0;
const LEFT: f64 = 46.0;
const RIGHT: f64 = 16.0;
const GOODPUT_HEIGHT: f64 = 250.0;
const RTT_HEIGHT: f64 = 110.0;
const TOP: f64 = 26.0;
const BOTTOM: f64 = 24.0;
/// Bins on each side that the drawn line is averaged with: half a second in all.
const SMOOTH: usize = 2;
/// A UDP load below this is somebody's, not a flood.
const SMALL_MBPS: f64 = 5.0;
/// Marks nearer than this (in pixels) are written one line lower.
const MARK_ROOM: f64 = 190.0;

/// How a series is drawn.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Style {
    Bought,
    BoughtToo,
    Unpaid,
    UnpaidToo,
    Crowd,
    Flood,
    Small,
    SmallToo,
}

impl Style {
    pub fn class(self) -> &'static str {
        match self {
            Style::Bought => "bought",
            Style::BoughtToo => "bought2",
            Style::Unpaid => "unpaid",
            Style::UnpaidToo => "unpaid2",
            Style::Crowd => "crowd",
            Style::Flood => "flood",
            Style::Small => "small",
            Style::SmallToo => "small2",
        }
    }
}

/// A style for each series of an act: what was bought stands out, the crowd stays behind.
pub fn styles(act: &ActReport) -> Vec<Style> {
    let mean = |series: &SeriesReport| series.mbps.iter().sum::<f64>() / series.mbps.len().max(1) as f64;
    let mut used = Vec::new();
    let mut pick = |first: Style, second: Style| {
        let style = if used.contains(&first) { second } else { first };
        used.push(style);
        style
    };
    act.series
        .iter()
        .map(|series| match series.kind {
            SeriesKind::Flow if series.bought => pick(Style::Bought, Style::BoughtToo),
            SeriesKind::Flow => pick(Style::Unpaid, Style::UnpaidToo),
            SeriesKind::TcpLoad => Style::Crowd,
            SeriesKind::UdpLoad if mean(series) < SMALL_MBPS => pick(Style::Small, Style::SmallToo),
            SeriesKind::UdpLoad => Style::Flood,
        })
        .collect()
}

/// Text for inside of markup.
pub fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

struct Frame {
    height: f64,
    from_s: f64,
    until_s: f64,
    top_value: f64,
}

impl Frame {
    fn x(&self, at_s: f64) -> f64 {
        let share = (at_s - self.from_s) / (self.until_s - self.from_s).max(1e-9);
        LEFT + share.clamp(0.0, 1.0) * (WIDTH - LEFT - RIGHT)
    }

    fn y(&self, value: f64) -> f64 {
        let share = (value / self.top_value).clamp(0.0, 1.0);
        self.height - BOTTOM - share * (self.height - TOP - BOTTOM)
    }

    fn open(&self, label: &str) -> String {
        format!(
            "<svg viewBox=\"0 0 {WIDTH} {}\" role=\"img\" aria-label=\"{}\">\n",
            self.height,
            escape(label)
        )
    }

    /// Grid, numbers and the unit.
    fn axes(&self, svg: &mut String, unit: &str, y_step: f64) {
        let mut value = 0.0;
        while value <= self.top_value + 1e-9 {
            let y = self.y(value);
            let _ = writeln!(
                svg,
                "<line class=\"grid\" x1=\"{LEFT}\" x2=\"{:.1}\" y1=\"{y:.1}\" y2=\"{y:.1}\"/><text class=\"tick\" \
                 x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"end\">{value}</text>",
                WIDTH - RIGHT,
                LEFT - 6.0,
                y + 3.5,
            );
            value += y_step;
        }
        let x_step = nice_step((self.until_s - self.from_s) / 10.0);
        let mut at = (self.from_s / x_step).ceil() * x_step;
        while at <= self.until_s + 1e-9 {
            let _ = writeln!(
                svg,
                "<text class=\"tick\" x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"middle\">{} s</text>",
                self.x(at),
                self.height - 7.0,
                (at + 0.0).to_string().replace('-', "−"),
            );
            at += x_step;
        }
        let _ = writeln!(svg, "<text class=\"unit\" x=\"{LEFT}\" y=\"12\">{unit}</text>");
    }
}

/// 1, 2 or 5 times a power of ten, at least `rough`.
fn nice_step(rough: f64) -> f64 {
    let power = 10f64.powf(rough.max(1e-6).log10().floor());
    let lead = rough / power;
    let nice = if lead <= 1.0 {
        1.0
    } else if lead <= 2.0 {
        2.0
    } else if lead <= 5.0 {
        5.0
    } else {
        10.0
    };
    nice * power
}

fn smooth(values: &[f64]) -> Vec<f64> {
    (0..values.len())
        .map(|at| {
            let part = &values[at.saturating_sub(SMOOTH)..(at + SMOOTH + 1).min(values.len())];
            part.iter().sum::<f64>() / part.len() as f64
        })
        .collect()
}

fn path(points: impl Iterator<Item = (f64, f64)>) -> String {
    let mut text = String::new();
    for (index, (x, y)) in points.enumerate() {
        let _ = write!(text, "{}{x:.1} {y:.1}", if index == 0 { "M" } else { "L" });
    }
    text
}

/// Goodput of each party against what was promised.
pub fn goodput(act: &ActReport, link_mbps: f64) -> String {
    let smoothed: Vec<Vec<f64>> = act.series.iter().map(|series| smooth(&series.mbps)).collect();
    let promised = act.schedules.iter().flat_map(|s| s.segments.iter().map(|(_, _, mbps)| *mbps));
    let highest = smoothed.iter().flatten().copied().chain(promised).fold(link_mbps * 0.5, f64::max);
    let step = nice_step(highest / 5.0);
    let frame = Frame {
        height: GOODPUT_HEIGHT,
        from_s: act.from_s,
        until_s: act.until_s,
        top_value: (highest * 1.05 / step).ceil() * step,
    };
    let mut svg = frame.open(&format!("Goodput in act {}", act.name));
    frame.axes(&mut svg, "Mbit/s", step);
    marks(&mut svg, &frame, act);
    // Bought last: it lies on top.
    let mut order: Vec<(usize, Style)> = styles(act).into_iter().enumerate().collect();
    order.sort_by_key(|(_, style)| matches!(style, Style::Bought | Style::BoughtToo | Style::Unpaid));
    for (index, style) in order {
        let series = &act.series[index];
        let at = |bin: usize| series.from_s + (bin as f64 + 0.5) * series.bin_s;
        let line = smoothed[index].iter().enumerate().map(|(bin, mbps)| (frame.x(at(bin)), frame.y(*mbps)));
        let _ = writeln!(svg, "<path class=\"line {}\" d=\"{}\"/>", style.class(), path(line));
    }
    for schedule in &act.schedules {
        let mut points = Vec::new();
        for (from, until, mbps) in &schedule.segments {
            points.push((frame.x(*from), frame.y(*mbps)));
            points.push((frame.x(*until), frame.y(*mbps)));
        }
        let _ = writeln!(svg, "<path class=\"promise\" d=\"{}\"/>", path(points.into_iter()));
    }
    svg.push_str("</svg>\n");
    svg
}

/// What happened, as upright lines; neighbours in time are written on two heights.
fn marks(svg: &mut String, frame: &Frame, act: &ActReport) {
    let mut room = [f64::NEG_INFINITY; 3];
    for mark in &act.marks {
        let x = frame.x(mark.at_s);
        let level = room.iter().position(|free| x > *free).unwrap_or(0);
        room[level] = x + MARK_ROOM.max(mark.text.len() as f64 * 5.6);
        let y = TOP + 4.0 + level as f64 * 13.0;
        let right = x > WIDTH * 0.72;
        let _ = writeln!(
            svg,
            "<line class=\"mark\" x1=\"{x:.1}\" x2=\"{x:.1}\" y1=\"{TOP}\" y2=\"{:.1}\"/><text class=\"marktext\" \
             x=\"{:.1}\" y=\"{y:.1}\" text-anchor=\"{}\">{}</text>",
            frame.height - BOTTOM,
            if right { x - 4.0 } else { x + 4.0 },
            if right { "end" } else { "start" },
            escape(&mark.text)
        );
    }
}

/// Round trips of those who did not pay.
pub fn rtt(act: &ActReport) -> String {
    let times = act.rtt.iter().flat_map(|host| host.samples.iter().filter_map(|(_, ms)| *ms));
    let highest = times.fold(20.0, f64::max).min(500.0);
    let step = nice_step(highest / 3.0);
    let frame = Frame {
        height: RTT_HEIGHT,
        from_s: act.from_s,
        until_s: act.until_s,
        top_value: (highest * 1.05 / step).ceil() * step,
    };
    let mut svg = frame.open(&format!("Round trips in act {}", act.name));
    frame.axes(&mut svg, "round trip, ms", step);
    for (index, host) in act.rtt.iter().enumerate() {
        let mut dots = String::new();
        let mut lost = String::new();
        for (at, ms) in &host.samples {
            let x = frame.x(*at);
            match ms {
                Some(ms) => {
                    let _ = write!(dots, "M{x:.1} {:.1}h0", frame.y(*ms));
                }
                None => {
                    let _ = write!(lost, "M{x:.1} {TOP}v5");
                }
            }
        }
        let _ = writeln!(svg, "<path class=\"dots h{}\" d=\"{dots}\"/>", index % 3);
        if !lost.is_empty() {
            let _ = writeln!(svg, "<path class=\"lost\" d=\"{lost}\"/>");
        }
    }
    svg.push_str("</svg>\n");
    svg
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn steps_are_nice_and_lines_smooth() {
        assert_eq!([0.3, 1.0, 1.2, 4.0, 7.7].map(nice_step), [0.5, 1.0, 2.0, 5.0, 10.0]);
        assert_eq!(smooth(&[0.0, 0.0, 10.0, 0.0, 0.0]), vec![10.0 / 3.0, 2.5, 2.0, 2.5, 10.0 / 3.0]);
        assert_eq!(path([(1.0, 2.0), (3.04, 4.0)].into_iter()), "M1.0 2.0L3.0 4.0");
    }
}
