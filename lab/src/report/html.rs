//! The report as one HTML file: nothing is fetched, everything is inside.

use super::model::{ActReport, FlowReport, PurchaseReport, Report, Verdict};
use super::svg::{self, escape};
use serde_json::Value;
use std::fmt::Write as _;

const STYLE: &str = include_str!("style.css");

/// The whole page.
pub fn page(report: &Report) -> String {
    let mut html = format!(
        "<!doctype html>\n<html lang=\"en\">\n<meta charset=\"utf-8\">\n<meta name=\"viewport\" \
         content=\"width=device-width, initial-scale=1\">\n<title>{title} · Tollway lab</title>\n<style>\n{STYLE}</style>\n\
         <main>\n",
        title = escape(&report.title)
    );
    head(&mut html, report);
    tiles(&mut html, report);
    for (index, act) in report.acts.iter().enumerate() {
        panel(&mut html, index + 1, act, report);
    }
    foot(&mut html, report);
    html.push_str("</main>\n</html>\n");
    html
}

fn mbit(bps: f64) -> String {
    format!("{:.2}", bps / 1e6)
}

fn micros(value: i64) -> String {
    let sign = if value < 0 { "-" } else { "" };
    format!("{sign}{}.{:06}", value.unsigned_abs() / 1_000_000, value.unsigned_abs() % 1_000_000)
}

/// `12345678` as `12,345,678`.
fn grouped(value: u64) -> String {
    let digits = value.to_string();
    let mut text = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

fn or_unmeasured(text: Option<String>) -> String {
    text.unwrap_or_else(|| "not measured".into())
}

fn name_of(host: &str) -> String {
    let mut letters = host.chars();
    letters
        .next()
        .map_or_else(String::new, |first| first.to_uppercase().collect::<String>() + letters.as_str())
}

fn head(html: &mut String, report: &Report) {
    let (class, word) = match report.verdict {
        Verdict::Pass => ("pass", "Passed"),
        Verdict::Failed => ("failed", "Failed"),
        Verdict::Degraded => ("degraded", "Degraded"),
    };
    let link = &report.link;
    let _ = writeln!(
        html,
        "<div class=\"top\"><div><h1>{}</h1><p class=\"facts\">Line {} Mbit/s up, {} down; {:.0} ms of round trip \
         when empty; buffer {} kB · back-end {} · TCP {} · seed {}<br>{} UTC · {:.0} s · Linux {}</p></div><span \
         class=\"verdict {class}\">{word}</span></div>",
        escape(&report.title),
        link.up_bps as f64 / 1e6,
        link.down_bps as f64 / 1e6,
        link.delay_up_ms + link.delay_down_ms,
        link.buffer_up_bytes / 1000,
        escape(&report.backend),
        escape(&report.tcp),
        report.seed,
        escape(&report.started.get(..19).unwrap_or(&report.started).replace('T', " ")),
        report.took_s,
        escape(&report.kernel),
    );
    if let Some(why) = &report.aborted {
        let _ = writeln!(html, "<p class=\"note\">The run ended early: {}</p>", escape(why));
    }
    if report.honesty.degraded {
        let _ = writeln!(
            html,
            "<p class=\"note\">This host was too busy: the lab's own lateness was over its limit. The figures below \
             say more about the host than about the product.</p>"
        );
    }
}

fn tile(html: &mut String, value: &str, label: &str) {
    let _ =
        writeln!(html, "<div class=\"tile\"><b>{}</b><span>{}</span></div>", escape(value), escape(label));
}

/// The figures that a reader asks for first.
fn tiles(html: &mut String, report: &Report) {
    let role = |name: &str| report.acts.iter().find(|act| act.role.as_deref() == Some(name));
    let first = |act: Option<&'_ ActReport>| act.and_then(|act| act.flows.first().cloned());
    let took = |flow: &FlowReport| match flow.completed_s {
        Some(s) => format!("{s:.1} s"),
        None => "not in time".to_owned(),
    };
    let paid = role("paid").and_then(|act| act.flows.iter().find(|flow| flow.purchase.is_some()).cloned());
    let Some(paid) = paid else { return };
    html.push_str("<div class=\"tiles\">\n");
    if let Some(unpaid) = first(role("baseline")) {
        let arrived = unpaid.mean_bps / 1e6;
        tile(html, &took(&unpaid), &format!("unpaid, at {arrived:.1} Mbit/s"));
    }
    let deadline = paid.deadline_s.unwrap_or(0.0);
    tile(html, &took(&paid), &format!("paid, deadline {deadline:.0} s"));
    if let Some(bought) = &paid.purchase {
        let charged = bought.charged_micros.map_or_else(|| "not rated".into(), micros);
        tile(html, &charged, &format!("{} charged, {} held", bought.currency, micros(bought.held_micros)));
    }
    if let Some(act) = role("paid") {
        let others = &act.others;
        let floor = others.l3_over_floor.map(|share| {
            let (share, least) = (share * 100.0, others.floor_share_min * 100.0);
            format!(": {share:.1} % of their floor, bound {least:.0} %")
        });
        let label = format!("Mbit/s left to the others{}", floor.unwrap_or_default());
        tile(html, &or_unmeasured(others.l3_bps.map(mbit)), &label);
        let before = role("baseline").and_then(|b| b.others.rtt_p50_ms);
        if let (Some(before), Some(after)) = (before, act.others.rtt_p50_ms) {
            tile(html, &format!("{before:.0} → {after:.0} ms"), "the others' round trip, unpaid → paid");
        }
    }
    html.push_str("</div>\n");
}

fn panel(html: &mut String, number: usize, act: &ActReport, report: &Report) {
    let (mark, class) = if act.passed { ("✔", "mark-good") } else { ("✘", "mark-bad") };
    let _ = writeln!(
        html,
        "<section id=\"{}\"><div class=\"head\"><span class=\"number\">{number}</span><h2>{}</h2><span \
         class=\"{class}\">{mark}</span></div>\n<p class=\"sentence\">{}</p>",
        escape(&act.name),
        escape(&act.title),
        escape(&act.sentence)
    );
    troubles(html, act);
    legend(html, act);
    if !act.series.is_empty() || !act.marks.is_empty() {
        html.push_str(&svg::goodput(act, report.link.up_bps as f64 / 1e6));
    }
    if act.rtt.iter().any(|host| !host.samples.is_empty()) {
        rtt_legend(html, act);
        html.push_str(&svg::rtt(act));
    }
    flows(html, act);
    for flow in &act.flows {
        if let Some(bought) = &flow.purchase {
            purchase(html, flow, bought, matches!(act.role.as_deref(), Some("paid" | "outage")));
        }
    }
    expectations(html, act);
    html.push_str("</section>\n");
}

/// What failed the act beside its expectations, and each refusal with what was offered instead.
fn troubles(html: &mut String, act: &ActReport) {
    // The first problem stands in the sentence already.
    for problem in act.problems.iter().filter(|problem| !act.sentence.contains(problem.as_str())) {
        let _ = writeln!(html, "<p class=\"note\">{}</p>", escape(problem));
    }
    for refusal in &act.refusals {
        let _ = writeln!(
            html,
            "<h3>{} is refused</h3><p>The product refused <b>{}</b> with {} <code>{}</code>: {}</p>",
            escape(&name_of(&refusal.host)),
            escape(&refusal.flow),
            refusal.status,
            escape(&refusal.code),
            escape(&refusal.message)
        );
        if refusal.counter_offers.is_empty() {
            html.push_str("<p>It made no counter-offer.</p>\n");
            continue;
        }
        html.push_str(
            "<table><tr><th>counter-offer</th><th>Mbit/s</th><th>starts</th><th>until</th><th>price</th><th></th></tr>\n",
        );
        for offer in &refusal.counter_offers {
            let start = match offer.starts_in_ms {
                0 => "now".to_owned(),
                ms => format!("in {} s", ms.div_ceil(1000)),
            };
            let _ = writeln!(
                html,
                "<tr><td>{}</td><td>{}</td><td>{start}</td><td>{}</td><td>{} {}</td><td>{}</td></tr>",
                escape(&offer.variant.replace('_', " ")),
                mbit(offer.rate_bps as f64),
                escape(time_of_day(&offer.until)),
                micros(offer.price_micros),
                escape(&offer.currency),
                if offer.taken { "taken" } else { "" }
            );
        }
        html.push_str("</table>\n");
    }
}

fn legend(html: &mut String, act: &ActReport) {
    html.push_str("<div class=\"legend\">");
    for (series, style) in act.series.iter().zip(svg::styles(act)) {
        let paid = if series.bought { ", paid" } else { "" };
        let _ = write!(
            html,
            "<span class=\"k-{}\"><i></i><span>{}: {}{paid}</span></span>",
            style.class(),
            escape(&name_of(&series.host)),
            escape(&series.name)
        );
    }
    if !act.schedules.is_empty() {
        html.push_str("<span class=\"promise-key\"><i></i><span>promised (IP)</span></span>");
    }
    html.push_str("</div>\n");
}

fn rtt_legend(html: &mut String, act: &ActReport) {
    html.push_str("<div class=\"legend\">");
    for (index, host) in act.rtt.iter().enumerate() {
        let lost = host.samples.iter().filter(|(_, ms)| ms.is_none()).count();
        let loss =
            if lost == 0 { String::new() } else { format!(" ({lost} of {} lost)", host.samples.len()) };
        let _ = write!(
            html,
            "<span class=\"k-h{}\"><i></i><span>{}{loss}</span></span>",
            index % 3,
            escape(&name_of(&host.host))
        );
    }
    if act.rtt.iter().any(|host| host.samples.iter().any(|(_, ms)| ms.is_none())) {
        html.push_str("<span class=\"lost-key\"><i></i><span>lost</span></span>");
    }
    html.push_str("</div>\n");
}

fn flows(html: &mut String, act: &ActReport) {
    if act.flows.is_empty() {
        return;
    }
    html.push_str(
        "<h3>Who got what</h3><table><tr><th>flow</th><th>arrived in</th><th>deadline</th><th>Mbit/s</th><th>promised \
         (IP)</th><th>longest gap</th><th>bytes at the receiver</th><th>metered</th><th>charged</th></tr>\n",
    );
    let or_dash = |text: Option<String>| text.unwrap_or_else(|| "–".into());
    for flow in &act.flows {
        let bought = flow.purchase.as_ref();
        let _ = writeln!(
            html,
            "<tr><td>{}</td><td>{}</td><td>{}</td><td>{}</td><td>{}</td><td>{}</td>\
             <td>{}</td><td>{}</td><td>{}</td></tr>",
            escape(&flow.name),
            or_dash(flow.completed_s.map(|s| format!("{s:.2} s"))),
            or_dash(flow.deadline_s.map(|s| format!("{s:.0} s"))),
            mbit(flow.mean_bps),
            or_dash(bought.and_then(|b| b.promised_bps).map(mbit)),
            or_unmeasured(flow.gap_ms_max.map(|ms| format!("{ms:.0} ms"))),
            grouped(flow.receiver_bytes),
            or_dash(bought.map(|b| or_unmeasured(b.metered_bytes.map(grouped)))),
            or_dash(bought.map(|b| or_unmeasured(b.charged_micros.map(micros)))),
        );
    }
    let others = &act.others;
    let _ = writeln!(
        html,
        "<tr><td>everyone else (IP)</td><td>–</td><td>–</td><td>{}</td><td>{}</td><td>{}</td><td>–</td><td>–</td><td>–</td></tr></table>",
        or_unmeasured(others.l3_bps.map(mbit)),
        or_dash(others.floor_bps.map(|f| format!("floor {}", mbit(f)))),
        or_dash(others.rtt_p50_ms.map(|ms| format!("rtt {ms:.0} ms"))),
    );
}

fn purchase(html: &mut String, flow: &FlowReport, bought: &PurchaseReport, open: bool) {
    let open = if open { " open" } else { "" };
    let _ = writeln!(html, "<details{open}><summary>{}: price, evidence, bill</summary>", escape(&flow.name));
    if !bought.price_lines.is_empty() {
        html.push_str("<h3>Price lines of the offer</h3><ul>");
        for line in &bought.price_lines {
            let _ = write!(html, "<li>{}</li>", escape(line));
        }
        html.push_str("</ul>\n");
    }
    evidence(html, &bought.evidence);
    let _ = writeln!(
        html,
        "<h3>Bill, recomputed by check.py</h3><pre>{}</pre></details>",
        bought.bill.as_ref().map_or_else(|| "not measured".into(), |bill| escape(&bill.text))
    );
}

fn text_at<'a>(value: &'a Value, key: &str) -> &'a str {
    value.get(key).and_then(Value::as_str).unwrap_or("–")
}

/// The time of day of an RFC 3339 instant in UTC, with its milliseconds when it has any.
fn time_of_day(instant: &str) -> &str {
    let time = instant.split_once('T').map_or(instant, |(_, time)| time);
    time.trim_end_matches('Z').trim_end_matches(".000")
}

fn evidence(html: &mut String, evidence: &Value) {
    let list = |key: &str| evidence.get(key).and_then(Value::as_array).cloned().unwrap_or_default();
    let intervals = list("intervals");
    if !intervals.is_empty() {
        html.push_str(
            "<h3>Evidence: the rule in the kernel</h3><table><tr><th>from</th><th class=\"left\">until</th><th \
             class=\"left\">state</th><th class=\"left\">reason</th></tr>\n",
        );
        for interval in &intervals {
            let _ = writeln!(
                html,
                "<tr><td>{}</td><td class=\"left\">{}</td><td class=\"left\">{}</td><td class=\"left\">{}</td></tr>",
                escape(time_of_day(text_at(interval, "from"))),
                escape(time_of_day(text_at(interval, "until"))),
                escape(text_at(interval, "state")),
                escape(text_at(interval, "reason")),
            );
        }
        html.push_str("</table>\n");
    }
    let readings = list("readings");
    if readings.is_empty() {
        return;
    }
    html.push_str(
        "<h3>Evidence: delivered against promised, by slot</h3><table><tr><th>slot</th><th>promised \
         bytes</th><th>delivered bytes</th><th>active</th><th>longest gap</th><th>kept</th><th>excused</th></tr>\n",
    );
    for reading in &readings {
        let number = |key: &str| reading.get(key).and_then(Value::as_u64).unwrap_or(0);
        let _ = writeln!(
            html,
            "<tr><td>{}</td><td>{}</td><td>{}</td><td>{:.1} s</td><td>{} ms</td><td>{:.1} s</td><td>{}</td></tr>",
            escape(time_of_day(text_at(reading, "slot_from"))),
            grouped(number("promised_bytes")),
            grouped(number("delivered_bytes")),
            number("active_ms") as f64 / 1e3,
            number("gap_ms_max"),
            number("kept_ms") as f64 / 1e3,
            escape(text_at(reading, "excused")),
        );
    }
    html.push_str("</table>\n");
}

fn expectations(html: &mut String, act: &ActReport) {
    if act.expectations.is_empty() {
        return;
    }
    html.push_str("<h3>Expected</h3><ul>\n");
    for expectation in &act.expectations {
        let (mark, class) = if expectation.holds { ("✔", "mark-good") } else { ("✘", "mark-bad") };
        let _ = writeln!(
            html,
            "<li><span class=\"{class}\">{mark}</span> <code>{}</code> — {}</li>",
            escape(&expectation.text),
            expectation.found_text()
        );
    }
    html.push_str("</ul>\n");
}

fn foot(html: &mut String, report: &Report) {
    let honesty = &report.honesty;
    let lateness = match (honesty.p50_ms, honesty.p99_ms, honesty.max_ms) {
        (Some(p50), Some(p99), Some(max)) => format!(
            "p50 {p50:.2} ms, p99 {p99:.2} ms (allowed {:.2}), worst {max:.1} ms",
            honesty.p99_allowed_ms
        ),
        _ => "not measured".into(),
    };
    let stalls = honesty.stalls.len();
    let _ = writeln!(
        html,
        "<footer>The lab's own lateness over {} frames: {lateness}; {stalls} stall{} in measured windows; {} frames \
         refused by the kernel.{} Goodput is what receivers got, averaged over half a second; bytes are counted by \
         nf_tables at the receiver with offloads off.</footer>",
        grouped(honesty.frames),
        if stalls == 1 { "" } else { "s" },
        honesty.kernel_drops,
        report.rules_left.map_or_else(String::new, |left| format!(" Rules left in the kernel: {left}.")),
    );
}
