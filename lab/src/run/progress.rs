//! What a person sees while it runs: progress on stderr, one line per act on stdout, the bill at the end.

use super::act::{Played, RefusedFlow};
use crate::report::model::{Report, Verdict};
use crate::scenario::plan::Act;
use std::io::{IsTerminal, Write};
use std::path::Path;

/// Writes to a terminal in place, to anything else line by line and only what matters.
pub struct Progress {
    terminal: bool,
}

impl Progress {
    pub fn new() -> Progress {
        Progress { terminal: std::io::stderr().is_terminal() }
    }

    /// A passing remark.
    pub fn say(&self, text: &str) {
        self.passing(text);
    }

    pub fn act_begins(&self, number: usize, of: usize, act: &Act) {
        if !self.terminal {
            eprintln!("act {number} of {of}: {}", act.title);
        }
    }

    pub fn phase(&self, act: &Act, what: &str) {
        self.passing(&format!("{}: {what}", act.title));
    }

    pub fn tick(&self, act: &Act, ms: u64, mbps: f64) {
        if self.terminal {
            let seconds = ms as f64 / 1e3;
            self.passing(&format!("{}  {seconds:5.1} s   line {mbps:5.1} Mbit/s", act.title));
        }
    }

    /// The act's one line.
    pub fn act_ends(&self, number: usize, played: &Played) {
        self.clear();
        println!("{} {number}. {}", if played.passed() { "✔" } else { "✘" }, played.sentence);
        // The first one is in the sentence.
        for problem in played.problems.iter().skip(1) {
            println!("     {problem}");
        }
        for seen in &played.refusals {
            counter_offers(seen);
        }
        for checked in played.checked.iter().filter(|checked| !checked.holds) {
            println!("     {}: {}", checked.text, checked.found_text());
        }
    }

    /// The bill, the verdict, and where to look.
    pub fn closing(&self, report: &Report, out: &Path) {
        self.clear();
        let paid = report.acts.iter().find(|act| act.role.as_deref() == Some("paid"));
        let bought = paid.and_then(|act| act.flows.iter().find_map(|flow| flow.purchase.as_ref()));
        println!();
        if let Some(act) = paid {
            match bought.and_then(|bought| bought.bill.as_ref()) {
                Some(bill) => {
                    println!("The bill of act {:?}, recomputed from the API's answers alone:", act.name);
                    bill.text.lines().for_each(|line| println!("  {line}"));
                }
                None => println!("The bill of act {:?}: not measured", act.name),
            }
        }
        if let Some(left) = report.rules_left {
            println!("Rules left in the kernel: {left}");
        }
        let honesty = &report.honesty;
        match (honesty.p50_ms, honesty.p99_ms, honesty.max_ms) {
            (Some(p50), Some(p99), Some(max)) => println!(
                "The lab's own lateness: p50 {p50:.2} ms, p99 {p99:.2} ms (allowed {:.2}), worst {max:.1} ms",
                honesty.p99_allowed_ms
            ),
            _ => println!("The lab's own lateness: not measured (no frame crossed the line)"),
        }
        match report.verdict {
            Verdict::Pass => println!("PASS in {:.0} s", report.took_s),
            Verdict::Failed => println!("FAILED: {}", why_failed(report)),
            Verdict::Degraded => println!(
                "DEGRADED: this host was too busy to judge ({})",
                if honesty.stalls.is_empty() {
                    "late throughout"
                } else {
                    "it stalled inside a measured window"
                }
            ),
        }
        println!("Report: {}", out.join("report.html").display());
    }

    fn passing(&self, text: &str) {
        if self.terminal {
            eprint!("\r\x1b[2K{text}");
            let _ = std::io::stderr().flush();
        }
    }

    fn clear(&self) {
        if self.terminal {
            eprint!("\r\x1b[2K");
            let _ = std::io::stderr().flush();
        }
    }
}

/// What was offered instead of what was refused; the refusal itself stands in the act's sentence or problem.
fn counter_offers(seen: &RefusedFlow) {
    let RefusedFlow { flow, refused, .. } = seen;
    if refused.offers.is_empty() {
        println!("     no counter-offer to {flow}");
    }
    for (at, offer) in refused.offers.iter().enumerate() {
        let taken = if refused.taken == Some(at) { " (taken)" } else { "" };
        println!("     counter-offer to {flow}: {}{taken}", offer.words());
    }
}

/// Which acts failed, or what else did.
fn why_failed(report: &Report) -> String {
    let failed: Vec<&str> = report.acts.iter().filter(|a| !a.passed).map(|a| a.name.as_str()).collect();
    let acts = match failed.as_slice() {
        [] => None,
        [one] => Some(format!("act {one}")),
        many => Some(format!("acts {}", many.join(", "))),
    };
    let left = report.rules_left.filter(|left| *left > 0);
    let left = left.map(|left| format!("{left} rules are left in the kernel"));
    let ended = report.aborted.as_ref().map(|why| format!("the run ended early: {why}"));
    [acts, left, ended].into_iter().flatten().collect::<Vec<_>>().join("; ")
}
